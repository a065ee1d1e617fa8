"""The fingerprint of a folder of trained parts, which is that of its tokens and embeddings."""

from __future__ import annotations

import hashlib
from pathlib import Path

from compressor.fwd2bot.config import FILE_NAME

# The files that decide tokens and embeddings; a model card may change, a fingerprint must not.
_FINGERPRINTED = (
    FILE_NAME,
    "base.json",  # with the default model: what its base is made of
    "*.safetensors",
    "*/adapter_config.json",
    "*/*.safetensors",
)


def fingerprint(folder: Path) -> str:
    """32 hex digits of the SHA-256 over all files that decide tokens and embeddings."""
    digest = hashlib.sha256()
    paths: set[Path] = set()
    for pattern in _FINGERPRINTED:
        paths.update(folder.glob(pattern))
    # Sorted by name: the order of a directory differs from machine to machine.
    for path in sorted(paths):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:32]
