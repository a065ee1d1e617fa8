"""Backward through a step, whole or in micro batches whose contrastive loss is still that of the
whole batch.

GradCache (Gao et al., arXiv 2101.06983): embeddings of all micro batches without a graph, the
gradient of the contrastive loss with respect to them, then each micro batch once more with a graph,
through which its share of that gradient flows together with its own losses. Memory is that of a
micro batch; the first pass is done twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.config import Recipe
from compressor.training.distributed import Processes
from compressor.training.sample import Sample
from compressor.training.step import (
    Captions,
    StepLosses,
    answer_losses,
    captions,
    contrastive_loss,
    double_forward,
    first_pass,
    shares_of,
)


def backward(
    model: SummaryLvlm,
    samples: Sequence[Sample],
    recipe: Recipe,
    caption_words: frozenset[str],
    processes: Processes,
) -> StepLosses:
    """Adds to the gradients what this process's samples give; the losses come back without a graph."""
    if not 0 < recipe.micro_batch_size < len(samples):
        losses = double_forward(model, samples, recipe, caption_words, processes)
        losses.total(recipe).backward()
        return StepLosses(
            losses.autoregressive.detach(), losses.contrastive.detach(), losses.words.detach()
        )
    micro = [
        samples[start : start + recipe.micro_batch_size]
        for start in range(0, len(samples), recipe.micro_batch_size)
    ]
    states = []  # of the random numbers: the second time cells are drawn as the first time
    known: list[Captions] = []
    if recipe.contrastive_weight:
        with torch.no_grad():
            for some in micro:
                states.append(_random_state())
                known.append(captions(model, some, first_pass(model, some, recipe), recipe))
    contrastive, gradients = _contrastive(model, known, recipe, processes)
    shares = shares_of(model, samples, recipe, caption_words, processes)
    autoregressive = words = torch.zeros((), device=model.device)
    for number, some in enumerate(micro):
        if states:
            _restore(states[number])
        first = first_pass(model, some, recipe)
        answers, said = answer_losses(model, some, first, recipe, caption_words, shares)
        loss = answers + recipe.words_weight * said
        if known and known[number].said:
            again = captions(model, some, first, recipe)
            for embeddings, gradient in zip(
                (again.images, again.texts), gradients[number], strict=True
            ):
                loss = loss + (embeddings * gradient).sum()
        loss.backward()
        autoregressive, words = autoregressive + answers.detach(), words + said.detach()
    return StepLosses(autoregressive, contrastive, words)


def _contrastive(
    model: SummaryLvlm, known: Sequence[Captions], recipe: Recipe, processes: Processes
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The loss of all micro batches, and its gradients with respect to the embeddings of each.

    The gradient of the temperature goes to its parameter at once.
    """
    if not known:
        return torch.zeros((), device=model.device), []
    images, texts = (
        torch.cat(each).requires_grad_()
        for each in zip(*((k.images, k.texts) for k in known), strict=True)
    )
    loss = contrastive_loss(
        model, Captions(images, texts, [text for each in known for text in each.said]), processes
    )
    (recipe.contrastive_weight * loss).backward()
    sizes = [len(each.said) for each in known]
    parts = (
        torch.zeros_like(each).split(sizes) if each.grad is None else each.grad.split(sizes)
        for each in (images, texts)
    )
    return loss.detach(), list(zip(*parts, strict=True))


def _random_state() -> list[Tensor]:
    return [
        torch.get_rng_state(),
        *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []),
    ]


def _restore(state: Sequence[Tensor]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state_all(list(state[1:]))
