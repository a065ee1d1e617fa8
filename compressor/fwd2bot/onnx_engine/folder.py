"""The folder of a language model exported for ONNX Runtime: its manifest, and how it is checked.

docs/storage.md describes the format.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from compressor.errors import ModelFilesInvalid, ModelFilesMissing

FORMAT_VERSION: Literal[1] = 1
GRAPH = "model.onnx"
WEIGHTS = "model.onnx.data"  # of the graph, which names it
CANARY = "canary.safetensors"
MANIFEST = "manifest.json"
FILES = (GRAPH, WEIGHTS, CANARY)

# Of the weights; embeddings, keys, values and logits are float32 in both.
Precision = Literal["float32", "int8"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DecoderShape(_Record):
    """The sizes of a language model's inputs and outputs."""

    layers: int
    key_value_heads: int
    head_size: int
    hidden_size: int
    vocabulary: int
    context_tokens: int


class FileSum(_Record):
    """Size and checksum of a file."""

    bytes: int
    sha256: str  # hex


class Manifest(_Record):
    """What the folder holds; written last, so that a folder that has it is whole."""

    format_version: Literal[1] = FORMAT_VERSION
    fingerprint: str  # of the summary model whose second pass this is
    precision: Precision
    shape: DecoderShape
    made_with: dict[str, str]  # versions of the packages that wrote the graph
    files: dict[str, FileSum]


def folder_name(fingerprint: str, precision: Precision) -> str:
    """The name of the folder of a model's second pass."""
    return f"second-pass-{fingerprint[:16]}-{precision}"


def write_manifest(
    folder: Path,
    *,
    fingerprint: str,
    precision: Precision,
    shape: DecoderShape,
    made_with: dict[str, str],
) -> None:
    """Completes a folder that has all other files."""
    manifest = Manifest(
        fingerprint=fingerprint,
        precision=precision,
        shape=shape,
        made_with=made_with,
        files={name: _sum_of(folder / name) for name in FILES},
    )
    text = json.dumps(manifest.model_dump(), indent=2, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text)


def read_manifest(folder: Path, fingerprint: str) -> Manifest:
    """The manifest of a folder whose files are all as it says.

    Raises ModelFilesMissing where there is no such folder, and ModelFilesInvalid for one of another
    version, of another model, or damaged.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise ModelFilesMissing(f"there is no {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFilesInvalid(f"{path} cannot be read") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ModelFilesInvalid(
            f"{path} is not a manifest of version {FORMAT_VERSION}"
        ) from error
    if manifest.fingerprint != fingerprint:
        raise ModelFilesInvalid(
            f"{folder} belongs to the model {manifest.fingerprint}, not to {fingerprint}"
        )
    if set(manifest.files) != set(FILES):
        raise ModelFilesInvalid(f"{path} does not name {', '.join(FILES)}")
    for name, expected in manifest.files.items():
        _check(folder / name, expected)
    return manifest


def _check(path: Path, expected: FileSum) -> None:
    try:
        # The size first: a file that was cut off need not be read.
        is_whole = path.stat().st_size == expected.bytes and _sum_of(path) == expected
    except OSError as error:
        raise ModelFilesInvalid(f"{path} cannot be read") from error
    if not is_whole:
        raise ModelFilesInvalid(f"{path} is damaged: its checksum is another")


def _sum_of(path: Path) -> FileSum:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileSum(bytes=file.tell(), sha256=digest.hexdigest())
