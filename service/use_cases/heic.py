"""HEIC and HEIF pictures, which Pillow reads with the extra `heic`."""

from __future__ import annotations

import importlib
from functools import cache

HEIF = "HEIF"  # Pillow's name of the format
_BRANDS = frozenset(
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
)  # fmt: skip


@cache
def can_read_heic() -> bool:
    """Whether pillow-heif is installed; at the first call it is registered with Pillow."""
    try:
        pillow_heif = importlib.import_module("pillow_heif")
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True


def is_heic(data: bytes) -> bool:
    """Whether a file says that it is HEIC or HEIF; it may be damaged."""
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS
