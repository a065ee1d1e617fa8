"""Backward through a step, in micro batches whose contrastive loss is that of the whole batch.

GradCache (Gao et al., arXiv 2101.06983): first the embeddings of all micro batches without a graph,
then the gradient of the contrastive loss with respect to them, then each micro batch once more with
a graph, through which its part of that gradient flows together with its own losses. Memory is that
of one micro batch; the first pass runs twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.batch import Batch
from compressor.training.config import TrainConfig
from compressor.training.distributed import SINGLE, Distributed
from compressor.training.frozen_tower import seen_once
from compressor.training.negative_queue import NegativeQueue
from compressor.training.step import (
    CaptionPairs,
    StepLosses,
    answer_loss,
    contrastive_loss,
    double_forward,
    embed_captions,
    first_pass,
    loss_normalizer,
)


def backward(
    model: SummaryLvlm,
    micro_batches: Sequence[Batch],
    config: TrainConfig,
    world: Distributed = SINGLE,
    queue: NegativeQueue | None = None,
) -> StepLosses:
    """Adds this rank's gradients of the step; the losses come back without a graph."""
    if len(micro_batches) == 1:
        losses = double_forward(model, micro_batches[0], config, world, queue)
        _backward(losses.total(config))
        return losses.detach()

    zero = torch.zeros((), device=model.device)
    # First time, without a graph: embeddings alone, whatever their number, fit in memory.
    contrastive = zero
    cached: list[tuple[Tensor, Tensor]] = []
    random_states = []
    if config.contrastive_weight:
        pairs = []
        with torch.no_grad():
            for batch in micro_batches:
                random_states.append(random_state())
                first = first_pass(model, batch, config)
                pairs.append(embed_captions(model, batch, first, config))
        contrastive, cached = _cached_gradients(model, pairs, config, world, queue)

    # Second time, with a graph, one micro batch at a time. The normalizer is that of the whole
    # step, so that the sum of the micro batches' losses is the step's.
    normalizer = loss_normalizer(micro_batches, world)
    autoregressive = distillation = zero
    tokens = places = 0
    for number, batch in enumerate(micro_batches):
        if random_states:
            # Whatever a first pass draws at random (dropout, say) it must draw alike both
            # times: the cached gradient belongs to the first time's embeddings.
            restore_random_state(random_states[number])
        with seen_once(model):
            first = first_pass(model, batch, config)
            answers = answer_loss(model, first, batch, config, normalizer)
        total = StepLosses(answers.autoregressive, answers.distillation, zero).total(
            config
        )
        if cached and (batch.captions or config.fsdp):
            # The surrogate's gradient with respect to the embeddings is the cached gradient, which
            # has the contrastive weight in it already.
            again = embed_captions(model, batch, first, config)
            image_gradient, text_gradient = cached[number]
            total = total + (again.images * image_gradient).sum()
            total = total + (again.texts * text_gradient).sum()
        _backward(total)
        autoregressive = autoregressive + answers.autoregressive.detach()
        distillation = distillation + answers.distillation.detach()
        tokens += answers.tokens
        places += answers.places
    return StepLosses(autoregressive, distillation, contrastive, tokens, places)


def _backward(total: Tensor) -> None:
    # A micro batch of captions alone has no graph where the first pass is frozen.
    if total.requires_grad:
        total.backward()


def _cached_gradients(
    model: SummaryLvlm,
    pairs: Sequence[CaptionPairs],
    config: TrainConfig,
    world: Distributed,
    queue: NegativeQueue | None,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The contrastive loss of all micro batches, and the gradients of each one's embeddings.

    The gradient of the temperature goes to its parameter at once.
    """
    # Leaves of a graph of their own, which ends here and not in the model.
    images = torch.cat([pair.images for pair in pairs]).requires_grad_()
    texts = torch.cat([pair.texts for pair in pairs]).requires_grad_()
    captions: list[str] = []
    for pair in pairs:
        captions += pair.captions
    loss = contrastive_loss(model, CaptionPairs(images, texts, captions), world, queue)
    weighted = config.contrastive_weight * loss
    weighted.backward()
    sizes = [len(pair.captions) for pair in pairs]
    image_gradients = _gradient(images).split(sizes)
    text_gradients = _gradient(texts).split(sizes)
    return loss.detach(), list(zip(image_gradients, text_gradients, strict=True))


def _gradient(leaf: Tensor) -> Tensor:
    # Fewer than two pairs make no loss, and so no gradient.
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def random_state() -> list[Tensor]:
    """The states of PyTorch's generators: the CPU's, then each GPU's."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *gpus]


def restore_random_state(state: Sequence[Tensor]) -> None:
    """Sets the generators to what `random_state` returned."""
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state_all(list(state[1:]))
