"""Files of one image's summary tokens, with which images move from one library to another.

A safetensors file, described in docs/storage.md. Shapes: K summary tokens, D hidden size, E
embedding size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from index.errors import InvalidTokens, InvalidVector
from index.files import checksum
from index.library import Library
from index.model_info import ModelInfo
from index.ports import NewImage, Record
from index.vectors.arithmetic import unit
from service.errors import InvalidInput, InvalidTokenFile
from service.use_cases.ingest import Stored
from service.use_cases.metadata import checked_metadata

VERSION = 1
_KEY = "precis"  # of the one entry in the file's own metadata
_TOKENS, _EMBEDDING = "tokens", "embedding"
_CHECKSUM_BYTES = 16
_LENGTH_BYTES = 8  # of the header, at a safetensors file's start
_LARGEST = 65504.0  # of a token's or an embedding's values; what float16 holds
_MAX_SIDE_PX = 2**32 - 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
Floats = NDArray[np.float32]


def write_token_file(
    record: Record, tokens: Floats, model_info: ModelInfo | None
) -> bytes:
    """The file of an image with decoded tokens (K, D)."""
    # Rounding to eight bits moved the length off 1.
    (embedding,) = unit(record.embedding[np.newaxis])
    tensors = {_TOKENS: np.ascontiguousarray(tokens), _EMBEDDING: embedding}
    description = {
        "version": VERSION,
        "sha256": record.sha256,
        "fingerprint": record.fingerprint,
        "model": model_info.model if model_info else None,
        "mode": model_info.mode if model_info else None,
        "width_px": record.width_px,
        "height_px": record.height_px,
        "created_at_ms": record.created_at_ms,
        "metadata": dict(record.metadata),
    }
    description["checksum"] = _checksum(description, tensors)
    # One entry: safetensors writes several in no fixed order, and equal images give equal files.
    return save(tensors, {_KEY: _json(description)})


def read_token_file(data: bytes) -> NewImage:
    """The image in a file.

    Raises InvalidTokenFile. Whether it fits a library is the library's to say.
    """
    try:
        tensors = load(data)
        header_end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
        header = json.loads(data[_LENGTH_BYTES:header_end])
        description = json.loads(header["__metadata__"][_KEY])
        expected = description.pop("checksum")
        version = description["version"]
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidTokenFile("it was not written by this service") from error
    except RecursionError as error:
        raise InvalidTokenFile("its description is nested too deep") from error
    if version != VERSION:
        raise InvalidTokenFile(f"it has version {version}, not {VERSION}")
    if set(tensors) != {_TOKENS, _EMBEDDING}:
        raise InvalidTokenFile("it does not hold just tokens and an embedding")
    for name, values in tensors.items():
        _check_values(name, values)
    if expected != _checksum(description, tensors):
        raise InvalidTokenFile("its checksum does not match its content")
    return _image(description, tensors[_TOKENS], tensors[_EMBEDDING])


def _image(
    description: Mapping[str, Any], tokens: Floats, embedding: Floats
) -> NewImage:
    sha256 = description.get("sha256")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise InvalidTokenFile("its sha256 is not one")
    try:
        metadata = checked_metadata(description.get("metadata"))
    except InvalidInput as error:
        raise InvalidTokenFile(str(error)) from error
    return NewImage(
        sha256=sha256,
        fingerprint=str(description.get("fingerprint")),
        tokens=tokens,
        embedding=embedding,
        width_px=_side_px(description, "width_px"),
        height_px=_side_px(description, "height_px"),
        metadata=metadata,
        picture=None,
    )


def _side_px(description: Mapping[str, Any], name: str) -> int:
    side = description.get(name)
    if not isinstance(side, int) or not 1 <= side <= _MAX_SIDE_PX:
        raise InvalidTokenFile(f"its {name} is not that of a picture")
    return side


def _check_values(name: str, values: NDArray[Any]) -> None:
    if values.dtype != np.float32:
        raise InvalidTokenFile(f"its {name} are {values.dtype}, not float32")
    # NaN fails this comparison too, and infinity.
    if values.size == 0 or not np.abs(values).max() <= _LARGEST:
        raise InvalidTokenFile(f"its {name} hold NaN, or values beyond {_LARGEST:g}")
    if name == _EMBEDDING and not values.any():
        raise InvalidTokenFile("its embedding is zero")


def _checksum(description: Mapping[str, Any], tensors: Mapping[str, Floats]) -> str:
    content = _json(description).encode()
    for name in sorted(tensors):
        content += repr(tensors[name].shape).encode() + tensors[name].tobytes()
    return checksum(content, _CHECKSUM_BYTES).hex()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class TokenFile:
    """A file as it was sent."""

    filename: str
    data: bytes


class ImportTokens:
    """Stores images from files of tokens: no picture is read, and no model runs."""

    def __init__(self, library: Library, budgets: Sequence[int]) -> None:
        """`budgets` are the numbers of summary tokens that the model allows an image to keep."""
        self._library = library
        self._budgets = budgets

    def __call__(self, files: Sequence[TokenFile]) -> list[Stored]:
        """The outcome for each file, in order: all are stored, in one transaction, or none is.

        Raises InvalidTokenFile, index.errors.WrongFingerprint, StoreError.
        """
        images = [self._image(file) for file in files]
        try:
            results = self._library.put(images)
        except (InvalidTokens, InvalidVector) as error:
            raise InvalidTokenFile(str(error)) from error
        return [
            Stored(
                file.filename, result.record, "created" if result.created else "exists"
            )
            for file, result in zip(files, results, strict=True)
        ]

    def _image(self, file: TokenFile) -> NewImage:
        try:
            image = read_token_file(file.data)
        except InvalidTokenFile as error:
            raise InvalidTokenFile(f"{file.filename}: {error}") from error
        count = len(image.tokens)
        is_ours = image.fingerprint == self._library.fingerprint
        if is_ours and count not in self._budgets:
            allowed = " or ".join(map(str, self._budgets))
            raise InvalidTokenFile(
                f"{file.filename}: it holds {count} summary tokens; the model keeps {allowed}"
            )
        return image
