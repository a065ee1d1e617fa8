"""Decoders that misbehave, by the first bytes of the file; and one that all tests share."""

from __future__ import annotations

import os
import signal
import threading
from functools import cache
from pathlib import Path
from typing import Any

from service.decoders import DecoderProcesses, memory_limit_bytes
from service.settings import Settings
from service.use_cases.images import Admit, Decoded, decode

CRASH, HANG, FULL = b"crash", b"hang:", b"full:"


@cache
def shared_decode() -> DecoderProcesses:
    """The real thing, started once: a process takes a third of a second to start."""
    settings = Settings()
    limit = memory_limit_bytes(settings.max_image_pixels, settings.max_upload_bytes)
    return DecoderProcesses(
        timeout_s=60,
        max_memory_bytes=limit,
        max_pixels_at_once=settings.max_image_pixels,
    )


def misbehaving(
    data: bytes, *, max_pixels: int, max_side_px: int, admit: Admit
) -> Decoded:
    """Dies by a file that begins with CRASH; HANG and a path: writes its pid there, then hangs.

    FULL and a path: the same, as a picture of `max_pixels` that is decoded.
    """
    if data.startswith(CRASH):
        os.kill(os.getpid(), signal.SIGSEGV)
    if data.startswith(FULL):
        admit(max_pixels)
    if data.startswith((HANG, FULL)):
        _hang(data[len(HANG) :].decode())
    return decode(data, max_pixels=max_pixels, max_side_px=max_side_px, admit=admit)


class StuckAtStart:
    """A decoder whose process never starts; it writes its pid to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(
        self, data: bytes, *, max_pixels: int, max_side_px: int, admit: Admit
    ) -> Decoded:
        """Is never called."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        # The process begins by reading what it shall run.
        return _hang, (str(self._path),)


def _hang(pid_file: str) -> None:
    path = Path(pid_file)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(path)
    threading.Event().wait()
