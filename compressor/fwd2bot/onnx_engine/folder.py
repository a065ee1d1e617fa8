"""Folders of exported passes: their manifests, and how they are checked.

Each pass has a folder and a kind of manifest of its own. docs/storage.md describes the format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from compressor.errors import ModelFilesInvalid, ModelFilesMissing
from compressor.fwd2bot.onnx_engine.file_sums import FileSum, check_files

GRAPH = "model.onnx"
WEIGHTS = "model.onnx.data"  # of the graph, which names it
CANARY = "canary.safetensors"
MANIFEST = "manifest.json"
SECOND_PASS_FILES = (GRAPH, WEIGHTS, CANARY)

# Beside these, in the first pass's folder:
VISION = "vision.onnx"
VISION_WEIGHTS = "vision.onnx.data"
WORDS = "words.npy"  # (W, D) float32, or int8 with scales among the parts; see `Words`
PARTS = "parts.safetensors"  # prompt, retrieval head, scales of the words
WORD_SCALES = "word_scales"
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

    format_version: int
    fingerprint: str  # of the summary model whose pass this is
    made_with: dict[str, str]  # versions of the packages that wrote the graph
    files: dict[str, FileSum]


class SecondPassManifest(Manifest):
    """Of a folder of the second pass."""

    format_version: Literal[2] = 2
    precision: Precision
    shape: DecoderShape


class FirstPassManifest(Manifest):
    """Of a folder of the first pass, which computes in float32."""

    # In version 2 words and language model are float32 always.
    format_version: Literal[2, 3] = 3
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


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Completes a folder that has all other files."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n")


def read_manifest(
    folder: Path,
    fingerprint: str,
    kind: type[AnyManifest],
    *,
    as_exported: bool = False,
) -> AnyManifest:
    """The manifest of a folder whose files are all as it says.

    A file is read if it may have changed since its checksum was last found right. If `as_exported`,
    every file is read, and the folder must be of the version that an export writes now.
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
            f"{path} is not a manifest that this version of Précis reads"
        ) from error
    if as_exported and manifest.format_version != _written_version(kind):
        raise ModelFilesInvalid(f"{path} is of an earlier version")
    if manifest.fingerprint != fingerprint:
        raise ModelFilesInvalid(
            f"{folder} belongs to the model {manifest.fingerprint}, not to {fingerprint}"
        )
    is_first = issubclass(kind, FirstPassManifest)
    expected = FIRST_PASS_FILES if is_first else SECOND_PASS_FILES
    if set(manifest.files) != set(expected):
        raise ModelFilesInvalid(f"{path} does not name {', '.join(expected)}")
    check_files(folder, manifest.files, read_all=as_exported)
    return manifest


def _written_version(kind: type[Manifest]) -> int:
    version: int = kind.model_fields["format_version"].default
    return version
