"""Decoders that misbehave, by the first bytes of the file; and one that all tests share."""

from __future__ import annotations

import os
import signal
import threading
from functools import cache
from pathlib import Path

from service.decoders import DecoderProcesses, memory_limit_bytes
from service.settings import Settings
from service.use_cases.images import Decoded, decode

CRASH, HANG = b"crash", b"hang:"


@cache
def shared_decode() -> DecoderProcesses:
    """The real thing, started once: a process takes a third of a second to start."""
    settings = Settings()
    limit = memory_limit_bytes(settings.max_image_pixels, settings.max_upload_bytes)
    return DecoderProcesses(timeout_s=60, max_memory_bytes=limit)


def misbehaving(data: bytes, *, max_pixels: int, max_side_px: int) -> Decoded:
    """Dies by a file that begins with CRASH; HANG and a path: writes its pid there, then hangs."""
    if data.startswith(CRASH):
        os.kill(os.getpid(), signal.SIGSEGV)
    if data.startswith(HANG):
        path = Path(data.removeprefix(HANG).decode())
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(str(os.getpid()))
        unfinished.rename(path)
        threading.Event().wait()
    return decode(data, max_pixels=max_pixels, max_side_px=max_side_px)
