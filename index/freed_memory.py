"""Gives memory that was freed back to the system: after a build the C library keeps gigabytes of it for later use.

Knows nothing of indexes.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Does nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
