"""Decodes pictures in processes of their own, which may crash, hang or want too much memory.

A file that makes a decoder do so is refused; the service and the other files go on. What a process
answers is read as data and never unpickled.
"""

from __future__ import annotations

import atexit
import json
import logging
import multiprocessing
import re
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from PIL import AvifImagePlugin, Image

from service.errors import (
    DecoderDied,
    DecodingTooLarge,
    DecodingTooSlow,
    EmptyFile,
    ImageDamaged,
    NotAnImage,
    PictureError,
    TooManyPixels,
)
from service.pixel_budget import PixelBudget
from service.use_cases.images import Admit, Decoded, decode

log = logging.getLogger(__name__)

# Of all formats, lossless WebP with transparency takes most: 34 bytes a pixel, as measured.
_BYTES_PER_PIXEL = 40
_SPARE_BYTES = 256 * 1024 * 1024
_MAX_HEAD_BYTES = 1024 * 1024
_RGB_BYTES = 3
# For a process to start and import its code: a third of a second, or minutes on a slow disk. One
# that dies meanwhile is noticed at once.
_START_S = 600.0
_READY = b"ready"
_ADMITTED = b"admitted"
_STATUS = Path("/proc/self/status")
# A fork would copy the locks of the model's threads, held or not.
_SPAWN = multiprocessing.get_context("spawn")
_ERRORS: dict[str, type[PictureError]] = {
    error.__name__: error
    for error in (
        EmptyFile,
        ImageDamaged,
        NotAnImage,
        TooManyPixels,
        DecodingTooLarge,
    )
}


class _Decode(Protocol):
    """What a process runs: `decode`, which asks before it takes memory for the pixels."""

    def __call__(
        self, data: bytes, *, max_pixels: int, max_side_px: int, admit: Admit
    ) -> Decoded:
        """See `service.use_cases.images.decode`."""
        ...


def memory_limit_bytes(max_pixels: int, max_file_bytes: int) -> int:
    """What a process may take beside its code to decode the largest file that is accepted."""
    # Two copies of the file: as it was received, and as it is repaired.
    return _BYTES_PER_PIXEL * max_pixels + 2 * max_file_bytes + _SPARE_BYTES


class DecoderProcesses:
    """A `Decode` that runs in another process, one for each caller at a time. Thread-safe.

    Processes are kept for the next callers. One that dies, or decodes a file for longer than
    `timeout_s`, is replaced at the next call.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        max_memory_bytes: int,
        max_pixels_at_once: int,
        decode: _Decode = decode,
    ) -> None:
        """`decode` must be a function of a module, since the processes import it.

        The memory limit is one of a process's data, RLIMIT_DATA, and is set on Linux alone. A
        picture waits until those in progress have, with it, no more than `max_pixels_at_once`.
        """
        self._timeout_s = timeout_s
        self._max_memory_bytes = max_memory_bytes
        self._budget = PixelBudget(max_pixels_at_once)
        self._decode = decode
        self._lock = threading.Lock()
        self._idle: deque[_DecoderProcess] = deque()
        self._starting: set[_DecoderProcess] = set()
        self._closed = False
        # Before multiprocessing waits for the processes, which heed no SIGTERM.
        atexit.register(self.close)

    def __call__(self, data: bytes, *, max_pixels: int, max_side_px: int) -> Decoded:
        """See `Decode`. Raises DecoderDied, DecodingTooSlow and DecodingTooLarge as well."""
        with self._process() as process:
            return process.decode(data, max_pixels, max_side_px)

    def close(self) -> None:
        """Ends the processes that are idle or starting; those at work end with their call."""
        with self._lock:
            self._closed = True
            idle = list(self._idle)
            self._idle.clear()
            for process in self._starting:
                process.kill()
        for process in idle:
            process.close()
        atexit.unregister(self.close)

    @contextmanager
    def _process(self) -> Iterator[_DecoderProcess]:
        process = self._taken()
        try:
            yield process
        finally:
            with self._lock:
                is_kept = process.is_usable() and not self._closed
                if is_kept:
                    self._idle.append(process)
            if not is_kept:
                process.close()

    def _taken(self) -> _DecoderProcess:
        """An idle process that is still alive, or a new one."""
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None:
                return self._started()
            if process.is_usable():
                return process
            process.close()

    def _started(self) -> _DecoderProcess:
        process = _DecoderProcess(
            self._decode, self._max_memory_bytes, self._timeout_s, self._budget
        )
        with self._lock:
            self._starting.add(process)
            if self._closed:
                process.kill()
        is_ready = process.is_ready()
        with self._lock:
            self._starting.remove(process)
        if not is_ready:
            process.close()
            raise DecoderDied
        return process


class _DecoderProcess:
    """One process and the connection to it; for one thread at a time."""

    def __init__(
        self,
        decode: _Decode,
        max_memory_bytes: int,
        timeout_s: float,
        budget: PixelBudget,
    ) -> None:
        self._timeout_s = timeout_s
        self._budget = budget
        self._is_in_step = True  # the next answer will be that to the next question
        self._is_late = False  # killed since it took too long
        self._connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_serve,
            args=(theirs, decode, max_memory_bytes),
            name="decoder",
            daemon=True,
        )
        self._process.start()
        # From now on only the process holds its end, so that its death ends the connection.
        theirs.close()

    def decode(self, data: bytes, max_pixels: int, max_side_px: int) -> Decoded:
        """See `DecoderProcesses`."""
        self._is_in_step = False
        question = {"max_pixels": max_pixels, "max_side_px": max_side_px}
        with ExitStack() as held:
            with self._in_time():
                self._connection.send_bytes(json.dumps(question).encode())
                self._connection.send_bytes(data)
                head = self._head()
            while "pixels" in head:
                # It asks once more for a file that it has repaired.
                held.close()
                held.enter_context(self._budget.room(head["pixels"]))
                with self._in_time():
                    self._connection.send_bytes(_ADMITTED)
                    head = self._head()
            with self._in_time():
                pixels = self._connection.recv_bytes(_RGB_BYTES * max_side_px**2)
        self._is_in_step = True
        return _decoded(head, pixels)

    def _head(self) -> dict[str, Any]:
        head: dict[str, Any] = json.loads(self._connection.recv_bytes(_MAX_HEAD_BYTES))
        return head

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Ends the process once the block takes too long. Raises DecodingTooSlow, DecoderDied."""

        def end() -> None:
            self._is_late = True
            self._process.kill()

        # A process that hangs may not even read its question; its end frees this thread.
        timer = threading.Timer(self._timeout_s, end)
        timer.start()
        try:
            yield
        except (EOFError, OSError) as error:
            if self._is_late:
                raise DecodingTooSlow(
                    f"Decoding the image takes longer than {self._timeout_s:g} s."
                ) from error
            self._process.kill()
            self._process.join()
            status = self._process.exitcode
            log.warning("a decoder ended with status %s; its file is refused", status)
            raise DecoderDied from error
        finally:
            timer.cancel()
            timer.join()

    def is_ready(self) -> bool:
        """Waits for the process to start; whether it did."""
        # Not a part of the first file's time: it says nothing of the file.
        try:
            return (
                self._connection.poll(_START_S)
                and self._connection.recv_bytes() == _READY
            )
        except (EOFError, OSError):
            return False

    def is_usable(self) -> bool:
        """Whether it can decode another file."""
        return self._is_in_step and not self._is_late and self._process.is_alive()

    def kill(self) -> None:
        """Ends the process at once, whatever another thread does with it."""
        self._process.kill()

    def close(self) -> None:
        """Ends the process at once; it holds nothing that could be lost."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()


def _decoded(head: dict[str, Any], pixels: bytes) -> Decoded:
    """The picture of an answer. Raises the error that the answer names."""
    if "error" in head:
        raise _ERRORS[head["error"]](head["message"])
    width, height = head["size"]
    if len(pixels) != _RGB_BYTES * width * height:
        raise ValueError(f"{len(pixels)} bytes are no picture of {width} x {height} px")
    value_range = head["value_range"]
    return Decoded(
        Image.frombytes("RGB", (width, height), pixels),
        width_px=head["width_px"],
        height_px=head["height_px"],
        media_type=head["media_type"],
        value_range=None if value_range is None else tuple(value_range),
        exif=head["exif"],
        notes=head["notes"],
    )


def _serve(connection: Connection, decode: _Decode, max_memory_bytes: int) -> None:
    """What the process does: decodes file after file until the service closes the connection."""
    # Whoever stops the service stops this process with it; a signal to the whole group must not
    # take a file from a request that is being finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # There are as many processes as shall decode at once; and a thread takes memory.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    _limit_memory(max_memory_bytes)

    def admit(pixels: int) -> None:
        connection.send_bytes(json.dumps({"pixels": pixels}).encode())
        try:
            connection.recv_bytes()
        except EOFError:
            # No Exception, which would count as damage to the file.
            sys.exit()

    connection.send_bytes(_READY)
    while True:
        try:
            question = json.loads(connection.recv_bytes())
            data = connection.recv_bytes()
        except EOFError:
            return
        head, pixels = _answer(decode, data, question, admit)
        connection.send_bytes(json.dumps(head).encode())
        connection.send_bytes(pixels)


def _answer(
    decode: _Decode, data: bytes, question: dict[str, int], admit: Admit
) -> tuple[dict[str, Any], bytes]:
    try:
        decoded = decode(data, **question, admit=admit)
        return _head(decoded), decoded.image.tobytes()
    except MemoryError:
        error: PictureError = DecodingTooLarge(
            "Decoding the image takes more memory than the service allows."
        )
    except PictureError as caught:
        error = caught
    return {"error": type(error).__name__, "message": str(error)}, b""


def _head(decoded: Decoded) -> dict[str, Any]:
    return {
        "size": decoded.image.size,
        "width_px": decoded.width_px,
        "height_px": decoded.height_px,
        "media_type": decoded.media_type,
        "value_range": decoded.value_range,
        "exif": dict(decoded.exif),
        "notes": list(decoded.notes),
    }


def _limit_memory(max_bytes: int) -> None:
    """Limits the process's data to what they are now and `max_bytes` more."""
    if sys.platform != "linux":
        return
    import resource  # exists on Unix alone

    (present,) = re.findall(r"VmData:\s*(\d+) kB", _STATUS.read_text())
    limit_bytes = int(present) * 1024 + max_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
