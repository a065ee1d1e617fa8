"""Fits the retrieval head to hidden states of a finished first pass: a minute instead of hours.

Knows nothing of images. With the language model frozen its states are computed once; linear heads on them reach what
joint training with small batches does not, since every batch holds hundreds of negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.retrieval_head import RetrievalHead, joined

_GATE_DROPOUT = 0.3


@dataclass(frozen=True)
class States:
    """Hidden states of training images and their texts."""

    images: Tensor  # (N, K, C)
    texts: Tensor  # (M, C)
    owners: Tensor  # (M,) image that each text is about, -1 for a text that is only somebody's rival
    rivals: Tensor | None = None  # (M,) text that is nearly the same but wrong, -1 where there is none
    teaches: Tensor | None = None  # (N, P) parts of the embedding that an image teaches by themselves; all if None


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
) -> None:
    """Trains both projections and the temperature with symmetric InfoNCE; statistics are taken first.

    An image must also tell its text from the text's rival, beside all other texts of the batch. Each of several parts
    of the embedding is also trained by itself, on the images that teach it.
    """
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    head.fit_statistics(states.images, states.texts[states.owners >= 0])
    of_image = _texts_of_images(states.owners, len(states.images))
    rivals = states.rivals if states.rivals is not None else torch.full_like(states.owners, -1)
    optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randperm(len(states.images), generator=draw)[:batch_size]
        said = torch.tensor(
            [of_image[i][int(torch.randint(len(of_image[i]), (1,), generator=draw))] for i in chosen.tolist()]
        )
        rival = rivals[said]
        right_texts, wrong_texts = states.texts[said], states.texts[rival.clamp(min=0)]
        scale = head.log_scale.exp().clamp(max=100)
        seen = head.image_parts(states.images[chosen], dropout)
        read = head.text_parts(right_texts, dropout)
        wrong = head.text_parts(wrong_texts, dropout)
        gates, wrong_gates = (head.gates(texts, _GATE_DROPOUT) for texts in (right_texts, wrong_texts))
        loss = _contrast(joined(seen), joined(read, gates), joined(wrong, wrong_gates), rival >= 0, scale, smoothing)
        if len(seen) > 1:
            for number, (image, text, other) in enumerate(zip(seen, read, wrong, strict=True)):
                rows = slice(None) if states.teaches is None else states.teaches[chosen, number]
                loss = loss + _contrast(image[rows], text[rows], other[rows], rival[rows] >= 0, scale, smoothing)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


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
