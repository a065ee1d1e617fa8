"""Ends a text before the first of some sequences, while the text comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopSequences:
    """Lets a text through piece by piece, up to a stop sequence.

    What may be the beginning of one is held back until the next piece shows whether it is.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        """The sequences are not empty; without any, all of the text goes through at once."""
        self._sequences = sequences
        self._held = ""
        self.found = False  # the text has ended

    def push(self, piece: str, *, is_last: bool) -> str:
        """What may be shown now that `piece` has come. Nothing is pushed after the end."""
        text = self._held + piece
        self._held = ""
        # The one that is complete first, however the text falls into pieces.
        ends = [
            (place + len(sequence), place)
            for sequence in self._sequences
            if (place := text.find(sequence)) >= 0
        ]
        if ends:
            self.found = True
            _, place = min(ends)
            return text[:place]
        if is_last:
            return text
        held = max((_overlap(text, each) for each in self._sequences), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, sequence: str) -> int:
    """Characters at the end of `text` that `sequence` begins with."""
    longest = min(len(text), len(sequence) - 1)
    return next(
        (size for size in range(longest, 0, -1) if text.endswith(sequence[:size])), 0
    )
