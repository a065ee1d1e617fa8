"""How much of a data set has to be usable, so that a mistake in a path is no quiet loss of half the data.

Knows nothing of formats.
"""

from __future__ import annotations

from collections.abc import Mapping

from compressor.errors import DataInvalid

MOST_UNUSABLE_SHARE = 0.1


def check_usable(used: int, skipped: Mapping[str, int]) -> None:
    """`skipped` counts what could not be used, by reason. Raises DataInvalid if that is too much, or all."""
    unusable = sum(skipped.values())
    if not used or unusable > MOST_UNUSABLE_SHARE * (used + unusable):
        told = ", ".join(f"{count} with {reason}" for reason, count in skipped.items()) or "there are none"
        raise DataInvalid(f"of {used + unusable} samples {used} can be used: {told}")
