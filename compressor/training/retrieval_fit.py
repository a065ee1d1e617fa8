"""Fits the retrieval head to hidden states of a finished first pass: a minute instead of hours.

Knows nothing of images. With the language model frozen its states are computed once; linear heads on them reach what
joint training with small batches does not, since every batch holds hundreds of negatives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.retrieval_head import RetrievalHead, joined

_GATE_DROPOUT = 0.8  # with less the gate learns single texts by heart
_SEARCH_SHARE = 0.3  # of the texts that the gate sees of an image that has searches
_FOLDS = 5


@dataclass(frozen=True)
class States:
    """Hidden states of training images and their texts."""

    images: Tensor  # (N, K, C)
    texts: Tensor  # (M, C)
    owners: Tensor  # (M,) image that each text is about, -1 for a text that is only somebody's rival
    rivals: Tensor | None = None  # (M,) text that is nearly the same but wrong, -1 where there is none
    teaches: Tensor | None = None  # (N, P) parts of the embedding that an image teaches; all if None
    folds: Tensor | None = None  # (N,) images of one number are kept back together
    searches: Sequence[Sequence[int]] = ()  # of each image, texts that are right of others too: for the gate alone


def fit(
    head: RetrievalHead,
    states: States,
    steps: int = 300,
    batch_size: int = 512,
    rate: float = 1e-3,
    dropout: float = 0.5,
    smoothing: float = 0.1,
    decay: float = 0.1,
    seed: int = 1,
    fitted: Collection[int] = (),
) -> None:
    """Trains both projections and the temperature with symmetric InfoNCE; statistics are taken first.

    An image must also tell its text from the text's rival, beside all other texts of the batch. Each of several parts
    of the embedding is trained by itself, on the images that teach it, but those that are `fitted` already. How much
    each part counts for a text is learnt on images that a trial of the parts was kept from: what a part knows by heart
    says nothing of how good it is. There the images' searches are texts of theirs too.
    """
    head.fit_statistics(states.images, states.texts[states.owners >= 0])
    settings = _Settings(steps, batch_size, rate, dropout, smoothing, decay)
    every = torch.arange(len(states.images))
    if head.gate is not None:
        folds = states.folds if states.folds is not None else every % _FOLDS
        kept = folds == folds.min()
        trial = copy.deepcopy(head)
        _train(trial, states, every[~kept], settings, seed, fitted)
        _train_gate(trial, states, every[kept], settings, seed)
        head.gate.load_state_dict(trial.gate.state_dict())  # type: ignore[union-attr]  # a copy of what has one
    _train(head, states, every, settings, seed, fitted)


@dataclass(frozen=True)
class _Settings:
    steps: int
    batch_size: int
    rate: float
    dropout: float
    smoothing: float
    decay: float


@dataclass(frozen=True)
class _Batch:
    """Images, a text of each, and the text's rival where it has one."""

    chosen: Tensor  # (B,) images
    right: Tensor  # (B, C)
    wrong: Tensor  # (B, C)
    has_rival: Tensor  # (B,)
    descend: Callable[[Tensor], None]  # takes the step's loss


def _train(
    head: RetrievalHead, states: States, images: Tensor, settings: _Settings, seed: int, fitted: Collection[int]
) -> None:
    """The parts that are not fitted yet, each by itself."""
    parts = [number for number in range(len(head.parts)) if number not in fitted]
    trained = [*(each for number in parts for each in head.parts[number].parameters()), head.log_scale]
    for batch in _steps(states, images, trained, settings, seed):
        scale = head.log_scale.exp().clamp(max=100)
        seen = head.image_parts(states.images[batch.chosen], settings.dropout)
        read, wrong = (head.text_parts(texts, settings.dropout) for texts in (batch.right, batch.wrong))
        loss = seen[0].new_zeros(())
        for number in parts:
            rows = slice(None) if states.teaches is None else states.teaches[batch.chosen, number]
            pairs = (each[number][rows] for each in (seen, read, wrong))
            loss = loss + _contrast(*pairs, batch.has_rival[rows], scale, settings.smoothing)
        batch.descend(loss)


def _train_gate(head: RetrievalHead, states: States, images: Tensor, settings: _Settings, seed: int) -> None:
    """How much each part counts, the parts as they are; the temperature of the whole is another than that of a part."""
    gate, log_scale = head.gate, nn.Parameter(head.log_scale.detach().clone())
    assert gate is not None
    for batch in _steps(states, images, [*gate.parameters(), log_scale], settings, seed, _SEARCH_SHARE):
        with torch.no_grad():
            seen = joined(head.image_parts(states.images[batch.chosen]))
            read, wrong = (head.text_parts(texts) for texts in (batch.right, batch.wrong))
        gates, wrong_gates = (head.gates(texts, _GATE_DROPOUT) for texts in (batch.right, batch.wrong))
        scale = log_scale.exp().clamp(max=100)
        batch.descend(
            _contrast(seen, joined(read, gates), joined(wrong, wrong_gates), batch.has_rival, scale, settings.smoothing)
        )


def _steps(
    states: States,
    images: Tensor,
    trained: Sequence[nn.Parameter],
    settings: _Settings,
    seed: int,
    search_share: float = 0.0,
) -> Iterator[_Batch]:
    """Batches of the images, each with one of its texts, or of its searches in such a share of the cases."""
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    optimiser = torch.optim.AdamW(trained, lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.steps)

    def descend(loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()

    of_image = _texts_of_images(states.owners, len(states.images))

    def text_of(image: int) -> int:
        searched = states.searches[image] if search_share and states.searches else ()
        texts = searched if searched and float(torch.rand((), generator=draw)) < search_share else of_image[image]
        return texts[int(torch.randint(len(texts), (1,), generator=draw))]

    rivals = states.rivals if states.rivals is not None else torch.full_like(states.owners, -1)
    for _ in range(settings.steps):
        chosen = images[torch.randperm(len(images), generator=draw)[: settings.batch_size]]
        said = torch.tensor([text_of(image) for image in chosen.tolist()])
        rival = rivals[said]
        yield _Batch(chosen, states.texts[said], states.texts[rival.clamp(min=0)], rival >= 0, descend)


def _contrast(
    images: Tensor, texts: Tensor, rivals: Tensor, has_rival: Tensor, scale: Tensor, smoothing: float
) -> Tensor:
    """Symmetric InfoNCE of (B, E) pairs, smoothed, and how well each right text is told from its rival (B, E) alone."""
    scores = images @ texts.T * scale
    right = torch.arange(len(scores))
    told = nn.functional.softplus((images * rivals).sum(-1) * scale - scores.diagonal())[has_rival]
    to_texts = nn.functional.cross_entropy(scores, right, label_smoothing=smoothing) + told.sum() / max(1, len(told))
    return (to_texts + nn.functional.cross_entropy(scores.T, right, label_smoothing=smoothing)) / 2


def _texts_of_images(owners: Tensor, count: int) -> list[Sequence[int]]:
    of_image: list[list[int]] = [[] for _ in range(count)]
    for text, image in enumerate(owners.tolist()):
        if image >= 0:
            of_image[image].append(text)
    return of_image
