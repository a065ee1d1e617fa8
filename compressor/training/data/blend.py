"""Several sources of people's own samples as one endless stream, mixed by weight.

Knows nothing of formats. Which source sample n comes from depends on the seed and n alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compressor.errors import DataInvalid
from compressor.training.data.instructions import Instructions
from compressor.training.data.mixture import Sample


class Blend:
    """An endless iterator of samples that can be stopped and taken up again exactly."""

    def __init__(self, sources: Sequence[Instructions], weights: Sequence[float], seed: int) -> None:
        """A source's share of the samples is its weight's; without weights that of its own samples.

        Raises DataInvalid unless there are as many weights as sources, all above zero, or none.
        """
        if weights and (len(weights) != len(sources) or min(weights) <= 0):
            raise DataInvalid(f"{len(sources)} sources of data need as many weights above zero, not {list(weights)}")
        self._sources = sources
        self._weights = list(map(float, weights or map(len, sources)))
        self._seed, self._position = seed, 0

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        draw = random.Random(f"{self._seed}/blend/{self._position}")
        sample = next(draw.choices(self._sources, self._weights)[0])
        self._position += 1
        return sample

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands; JSON-serialisable."""
        sources = [source.state_dict() for source in self._sources]
        return {"seed": self._seed, "weights": self._weights, "position": self._position, "sources": sources}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken. Raises DataInvalid if it was taken from other data."""
        if (state.get("seed"), state.get("weights")) != (self._seed, self._weights):
            raise DataInvalid("the saved position belongs to other data, other weights or another seed")
        for source, of_source in zip(self._sources, state["sources"], strict=True):
            source.load_state_dict(of_source)
        self._position = state["position"]
