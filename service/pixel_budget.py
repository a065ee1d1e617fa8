"""A budget of pixels for the pictures that are decoded at once; it bounds the memory they take."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """Room for so many pixels, given in the order in which it is asked for. Thread-safe.

    Whoever holds room gives it back within the time limit of a decoder, and takes no more
    meanwhile: every wait ends.
    """

    def __init__(self, pixels: int) -> None:
        self._free = pixels
        self._all = pixels
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._waiting)

    @contextmanager
    def room(self, pixels: int) -> Iterator[None]:
        """Waits for room, and holds it; a larger picture than the whole budget gets all of it."""
        pixels = min(pixels, self._all)
        turn = object()
        with self._changed:
            # In turn: a large picture would otherwise wait for as long as small ones come.
            self._waiting.append(turn)
            self._changed.wait_for(
                lambda: self._waiting[0] is turn and pixels <= self._free
            )
            self._waiting.popleft()
            self._free -= pixels
            self._changed.notify_all()  # there may be room for the next as well
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()
