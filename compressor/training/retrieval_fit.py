"""Fits the retrieval head to hidden states of a finished first pass: a minute instead of hours.

Knows nothing of images. With the language model frozen its states are computed once; linear heads on them reach what
joint training with small batches does not, since every batch holds hundreds of negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.retrieval_head import RetrievalHead


@dataclass(frozen=True)
class States:
    """Hidden states of training images and their texts."""

    images: Tensor  # (N, K, C)
    texts: Tensor  # (M, C)
    owners: Tensor  # (M,) image that each text is about, -1 for a text that is only somebody's rival
    rivals: Tensor | None = None  # (M,) text that is nearly the same but wrong, -1 where there is none


def fit(
    head: RetrievalHead,
    states: States,
    steps: int = 300,
    batch_size: int = 512,
    rate: float = 1e-3,
    dropout: float = 0.7,
    smoothing: float = 0.1,
    decay: float = 0.1,
    seed: int = 1,
) -> None:
    """Trains both projections and the temperature with symmetric InfoNCE; statistics are taken first.

    An image must also tell its text from the text's rival, beside all other texts of the batch.
    """
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    head.fit_statistics(states.images, states.texts[states.owners >= 0])
    of_image = _texts_of_images(states.owners, len(states.images))
    rivals = states.rivals if states.rivals is not None else torch.full_like(states.owners, -1)
    optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    right = torch.arange(min(batch_size, len(states.images)))
    for _ in range(steps):
        chosen = torch.randperm(len(states.images), generator=draw)[: len(right)]
        said = torch.tensor(
            [of_image[i][int(torch.randint(len(of_image[i]), (1,), generator=draw))] for i in chosen.tolist()]
        )
        seen = head.embed_image(states.images[chosen], dropout)
        read = head.embed_text(states.texts[said], dropout)
        scale = head.log_scale.exp().clamp(max=100)
        scores = seen @ read.T * scale
        rival = rivals[said]
        against = (seen * head.embed_text(states.texts[rival.clamp(min=0)], dropout)).sum(-1) * scale
        loss = (
            _cross_entropy(scores, against.masked_fill(rival < 0, -100.0), right, smoothing)
            + nn.functional.cross_entropy(scores.T, right, label_smoothing=smoothing)
        ) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def _cross_entropy(scores: Tensor, against: Tensor, right: Tensor, smoothing: float) -> Tensor:
    """Smoothed over the batch's texts, plus how well each right text is told from its rival alone."""
    own = nn.functional.softplus(against - scores.diagonal())
    told = (against > -100).float()
    return nn.functional.cross_entropy(scores, right, label_smoothing=smoothing) + (
        own * told
    ).sum() / told.sum().clamp(min=1)


def _texts_of_images(owners: Tensor, count: int) -> list[Sequence[int]]:
    of_image: list[list[int]] = [[] for _ in range(count)]
    for text, image in enumerate(owners.tolist()):
        if image >= 0:
            of_image[image].append(text)
    return of_image
