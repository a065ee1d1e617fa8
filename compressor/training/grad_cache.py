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
from compressor.training.auxiliary import NO_AUXILIARY, Auxiliary
from compressor.training.config import TrainConfig
from compressor.training.distributed import SINGLE, Distributed
from compressor.training.sample import Sample
from compressor.training.step import (
    CaptionPairs,
    StepLosses,
    answer_loss,
    contrastive_loss,
    double_forward,
    embed_captions,
    first_pass,
    loss_normalizers,
    tokenize_batch,
)


def backward(
    model: SummaryLvlm,
    batch: Sequence[Sample],
    config: TrainConfig,
    world: Distributed = SINGLE,
    auxiliary: Auxiliary = NO_AUXILIARY,
) -> StepLosses:
    """Adds this rank's gradients of the step; the losses come back without a graph."""
    size = config.micro_batch_size
    if not 0 < size < len(batch):
        losses = double_forward(model, batch, config, world, auxiliary)
        losses.total(config, auxiliary).backward()
        return losses.detach()

    micro_batches = [batch[start : start + size] for start in range(0, len(batch), size)]
    zero = torch.zeros((), device=model.device)
    contrastive, cached = zero, []
    random_states = []
    if config.contrastive_weight:
        pairs = []
        with torch.no_grad():
            for micro_batch in micro_batches:
                random_states.append(_random_state())
                first = first_pass(model, micro_batch, config, auxiliary)
                pairs.append(embed_captions(model, micro_batch, first, config))
        contrastive, cached = _cached_gradients(model, pairs, config, world)

    tokenized = [tokenize_batch(model, micro_batch, config) for micro_batch in micro_batches]
    images = [image for micro_batch in tokenized for image in micro_batch]
    normalizers = loss_normalizers(images, batch, world, auxiliary)
    autoregressive = extra = zero
    for number, micro_batch in enumerate(micro_batches):
        if random_states:
            # Whatever a first pass draws at random (an auxiliary's, say) it must draw alike both
            # times: the cached gradient belongs to the first time's embeddings.
            _restore_random_state(random_states[number])
        first = first_pass(model, micro_batch, config, auxiliary)
        losses = StepLosses(
            answer_loss(model, first, tokenized[number], config, normalizers.answer_tokens),
            zero,
            auxiliary.loss(first, micro_batch, normalizers.auxiliary),
        )
        total = losses.total(config, auxiliary)
        if cached and len(cached[number][0]):
            # The surrogate's gradient with respect to the embeddings is the cached gradient, which
            # has the contrastive weight in it already.
            again = embed_captions(model, micro_batch, first, config)
            image_gradient, text_gradient = cached[number]
            total = total + (again.images * image_gradient).sum()
            total = total + (again.texts * text_gradient).sum()
        total.backward()
        autoregressive = autoregressive + losses.autoregressive.detach()
        extra = extra + losses.auxiliary.detach()
    return StepLosses(autoregressive, contrastive, extra)


def _cached_gradients(
    model: SummaryLvlm, pairs: Sequence[CaptionPairs], config: TrainConfig, world: Distributed
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The contrastive loss of all micro batches, and the gradients of each one's embeddings.

    The gradient of the temperature goes to its parameter at once.
    """
    images = torch.cat([pair.images for pair in pairs]).requires_grad_()
    texts = torch.cat([pair.texts for pair in pairs]).requires_grad_()
    captions = [caption for pair in pairs for caption in pair.captions]
    loss = contrastive_loss(model, CaptionPairs(images, texts, captions), world)
    (config.contrastive_weight * loss).backward()
    sizes = [len(pair.captions) for pair in pairs]
    gradients = []
    for embeddings in (images, texts):
        gradient = torch.zeros_like(embeddings) if embeddings.grad is None else embeddings.grad
        gradients.append(gradient.split(sizes))
    return loss.detach(), list(zip(*gradients, strict=True))


def _random_state() -> list[Tensor]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *cuda]


def _restore_random_state(state: Sequence[Tensor]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state_all(list(state[1:]))
