"""Commands that a test interrupts as a person does, with ^C."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO


@contextmanager
def interruptible(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stderr: int | IO[str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Runs the command, its output in a pipe, and kills it at the end where it still runs."""
    with subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        # Tests that a shell started in the background ignore SIGINT, and hand that down.
        preexec_fn=_heed_interrupts,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
