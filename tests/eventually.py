"""Waiting for something that another thread or process will bring about, and that cannot be waited
on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Returns as soon as the condition holds; fails after `limit_s`."""
    until = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, "it never came to pass"
        pause.wait(0.005)
