"""The service as users run it: a process of its own on a free port.

Knows nothing of what is asked of it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

GIVE_UP_S = 180
Command = Callable[[Path], Sequence[str]]  # given the data folder


@dataclass(frozen=True)
class Serving:
    """A service that is ready."""

    url: str
    ready_s: float  # from the start of the process to the first 200 of /readyz
    process: psutil.Process

    def resident_bytes(self) -> int:
        """Memory of the process, shared pages included."""
        return int(self.process.memory_info().rss)


def precis_serve(data_dir: Path) -> Sequence[str]:
    """The command of this environment's installation."""
    command = Path(sys.executable).with_name("precis")
    return [
        str(command),
        "serve",
        "--port",
        "0",
        "--data-dir",
        str(data_dir),
    ]


@contextmanager
def serving(folder: Path, command: Command = precis_serve) -> Iterator[Serving]:
    """A ready service that keeps its data in `folder`; it has ended after the block. Raises
    RuntimeError.
    """
    folder.mkdir(parents=True)
    log = folder / "service.log"
    started = time.perf_counter()
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command(folder / "data"),
            stdout=stderr,
            stderr=stderr,
        )
    try:
        url = _until(process, log, started, lambda: _announced(log))
        _until(process, log, started, lambda: _ready(url))
        yield Serving(
            url,
            time.perf_counter() - started,
            psutil.Process(process.pid),
        )
    finally:
        process.terminate()
        process.wait(60)


def _until(
    process: subprocess.Popen[bytes],
    log: Path,
    started: float,
    find: Callable[[], str | None],
) -> str:
    while (found := find()) is None:
        if process.poll() is not None or time.perf_counter() - started > GIVE_UP_S:
            raise RuntimeError(
                f"the service did not become ready:\n{log.read_text()[-2000:]}"
            )
        time.sleep(0.01)
    return found


def _announced(log: Path) -> str | None:
    found = re.search(r"running on (http://\S+)", log.read_text())
    return found and found[1]


def _ready(url: str) -> str | None:
    return url if httpx.get(f"{url}/readyz", timeout=30).status_code == 200 else None
