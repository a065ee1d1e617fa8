"""The one door for extra training signals of a particular model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from torch import Tensor

from compressor.fwd2bot.model import FirstPass
from compressor.training.sample import Sample


class Auxiliary(Protocol):
    """An extra training signal of a particular model; the paper's own training has none."""

    @property
    def weight(self) -> float:
        """Of the auxiliary loss in the total; the autoregressive loss has weight 1."""
        ...

    def first_pass_context(
        self, batch: Sequence[Sample]
    ) -> AbstractContextManager[None]:
        """What the model needs around a first pass over the batch's images."""
        ...

    # Apart from `loss`: a step computes the loss of one micro batch after the other, and divides
    # each by what all of them have together (`training.grad_cache`).
    def normalizer(self, batch: Sequence[Sample]) -> float:
        """What the loss of these samples is a mean over; the step averages it over all ranks."""
        ...

    def loss(
        self, first: FirstPass, batch: Sequence[Sample], normalizer: float
    ) -> Tensor:
        """The sum over the batch divided by `normalizer`, a scalar."""
        ...


class NoAuxiliary:
    """The paper's training: two losses and nothing else."""

    weight = 0.0

    def first_pass_context(
        self, batch: Sequence[Sample]
    ) -> AbstractContextManager[None]:
        """Nothing."""
        del batch
        return nullcontext()

    def normalizer(self, batch: Sequence[Sample]) -> float:
        """Nothing to normalise."""
        del batch
        return 0.0

    def loss(
        self, first: FirstPass, batch: Sequence[Sample], normalizer: float
    ) -> Tensor:
        """Zero."""
        del batch, normalizer
        return first.tokens.new_zeros(())


NO_AUXILIARY = NoAuxiliary()
