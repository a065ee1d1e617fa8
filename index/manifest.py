"""The files of a folder by size and hash: with such a list a backup or an export proves itself."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from index.files import checksum

_CHECKSUM_BYTES = 16
FileList = dict[str, dict[str, object]]  # size and hash by relative path


def describe(path: Path) -> dict[str, object]:
    """Size and hash of a file, read in blocks. Raises OSError."""
    new_hash = functools.partial(hashlib.blake2b, digest_size=_CHECKSUM_BYTES)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, new_hash)
    return {"bytes": path.stat().st_size, "blake2b": digest.hexdigest()}


def describe_all(folder: Path, manifest: str) -> FileList:
    """Every file below a folder but the one called `manifest`. Raises OSError."""
    return {name: describe(folder / name) for name in relative_files(folder, manifest)}


def relative_files(folder: Path, manifest: str) -> list[str]:
    """Relative paths of all files but the one called `manifest`, sorted."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix() for path in files}
    return sorted(names - {manifest})


def body_checksum(body: Mapping[str, object]) -> str:
    """The hash of a JSON object, however it is indented."""
    text = json.dumps(body, sort_keys=True)
    return checksum(text.encode(), _CHECKSUM_BYTES).hex()
