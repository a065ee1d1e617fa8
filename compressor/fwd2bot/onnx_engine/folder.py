"""Folders of exported passes: their manifests, and how they are checked.

Each pass has a folder and a kind of manifest of its own. docs/storage.md describes the format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from compressor.errors import ModelFilesInvalid, ModelFilesMissing

FORMAT_VERSION: Literal[2] = 2
GRAPH = "model.onnx"
WEIGHTS = "model.onnx.data"  # of the graph, which names it
CANARY = "canary.safetensors"
MANIFEST = "manifest.json"
SECOND_PASS_FILES = (GRAPH, WEIGHTS, CANARY)

# Beside these, in the first pass's folder:
VISION = "vision.onnx"
VISION_WEIGHTS = "vision.onnx.data"
WORDS = "words.npy"  # (W, D) float32, the embedding matrix
PARTS = "parts.safetensors"  # prompt and retrieval head
TOKENIZER = "tokenizer.json"
FIRST_PASS_FILES = (*SECOND_PASS_FILES, VISION, VISION_WEIGHTS, WORDS, PARTS, TOKENIZER)

# Outputs of a first pass's graph: states of the last layer, and of those between.
LAST = "hidden_states"
INNER = "aux_hidden_states"
# Input and output of the vision graph.
PIXELS = "pixel_values"
VISUAL_TOKENS = "visual_tokens"

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
    # Hex. A gigabyte is read at every start, and CPUs without instructions for SHA-256 need three
    # times as long for that.
    blake2b: str


class PixelFormat(_Record):
    """How a picture becomes the pixels that a vision tower sees."""

    height: int
    width: int
    resample: int  # Pillow's number of the filter
    scale: float  # of the values 0 to 255
    mean: tuple[float, ...]  # of each colour, taken off after scaling
    std: tuple[float, ...]


class TextFormat(_Record):
    """How conversations become tokens, beside the tokenizer's own file."""

    chat_template: str
    special_tokens: dict[str, str | list[str]]  # by the names that the template knows
    image_token_id: int
    end_ids: tuple[int, ...]


class Manifest(_Record):
    """What a folder holds; written last, so that a folder that has it is whole."""

    format_version: Literal[2] = FORMAT_VERSION
    fingerprint: str  # of the summary model whose pass this is
    made_with: dict[str, str]  # versions of the packages that wrote the graph
    files: dict[str, FileSum]


class SecondPassManifest(Manifest):
    """Of a folder of the second pass."""

    precision: Precision
    shape: DecoderShape


class FirstPassManifest(Manifest):
    """Of a folder of the first pass, whose weights are float32."""

    mode: str  # of the model's description
    summary: dict[str, Any]  # as in summary.json
    layers: int
    # Of `SummaryConfig.embedding_layers`, counted from 0: the states that the graph gives.
    embedding_layers: tuple[int, ...]
    context_tokens: int
    pixels: PixelFormat
    text: TextFormat

    @property
    def inner_layers(self) -> list[int]:
        """Those that the graph gives side by side; the first and the last are its ends."""
        return inner_layers(self.embedding_layers, self.layers)


def inner_layers(embedding_layers: Iterable[int], layers: int) -> list[int]:
    """Of these layers, each once and in order, those between input embeddings and last layer."""
    return sorted({layer for layer in embedding_layers if 0 < layer < layers})


AnyManifest = TypeVar("AnyManifest", bound=Manifest)


def folder_name(fingerprint: str, precision: Precision) -> str:
    """The name of the folder of a model's second pass."""
    return f"second-pass-{fingerprint[:16]}-{precision}"


def first_pass_folder_name(fingerprint: str) -> str:
    """The name of the folder of a model's first pass."""
    return f"first-pass-{fingerprint[:16]}"


def file_sums(folder: Path) -> dict[str, FileSum]:
    """Of all files of a folder but its manifest."""
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    return {name: _sum_of(folder / name) for name in names}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Completes a folder that has all other files."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n")


def read_manifest(
    folder: Path, fingerprint: str, kind: type[AnyManifest]
) -> AnyManifest:
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
        manifest = kind.model_validate_json(text)
    except ValidationError as error:
        raise ModelFilesInvalid(
            f"{path} is not a manifest of version {FORMAT_VERSION}"
        ) from error
    if manifest.fingerprint != fingerprint:
        raise ModelFilesInvalid(
            f"{folder} belongs to the model {manifest.fingerprint}, not to {fingerprint}"
        )
    is_first = issubclass(kind, FirstPassManifest)
    expected = FIRST_PASS_FILES if is_first else SECOND_PASS_FILES
    if set(manifest.files) != set(expected):
        raise ModelFilesInvalid(f"{path} does not name {', '.join(expected)}")
    # Reading and hashing leave the interpreter to other threads.
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(
                lambda item: _check(folder / item[0], item[1]), manifest.files.items()
            )
        )
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
        digest = hashlib.file_digest(file, hashlib.blake2b)
        return FileSum(bytes=file.tell(), blake2b=digest.hexdigest())
