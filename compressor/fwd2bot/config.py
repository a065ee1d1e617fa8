"""Settings of a summary model: what, beside the weights, makes its tokens what they are.

Stored as `summary.json` beside the adapters; part of the fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from compressor.errors import ModelFilesInvalid, ModelFilesMissing

FILE_NAME = "summary.json"
FORMAT_VERSION = 2


class ReadoutKind(StrEnum):
    """How hidden states become summary tokens; see `Readout`."""

    HIDDEN = "hidden"
    SOFT_WORDS = "soft_words"
    SOFT_WORDS_IN_TURN = "soft_words_in_turn"


class Pooling(StrEnum):
    """How the retrieval head makes one vector of the K summary positions."""

    MEAN = "mean"
    LAST = "last"  # as VladVA (arXiv 2412.04378), of the same authors as Fwd2Bot
    LEARNED = "learned"  # a softmax over the positions; starts at the mean


class ForwardKind(StrEnum):
    """How the conversation reads an image."""

    DOUBLE = "double"  # from K last hidden states, in a second forward pass: Fwd2Bot
    SINGLE = "single"  # from K positions' states in every layer, see `single_forward`


class AdapterKind(StrEnum):
    """Which LoRA adapters the two passes run under."""

    STAGE_SPECIFIC = "stage_specific"  # one for each pass: Fwd2Bot
    SHARED = "shared"  # the same for both
    NONE = "none"  # the base model alone: only summary tokens and head are trained


ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class SummaryConfig:
    """How the first pass is read and the second pass is asked.

    Raises ValueError for a field that makes no sense.
    """

    base_model: str  # name and revision of the LVLM the adapters belong to
    token_count: int = 8  # K
    # After the image, before the summary tokens; the prompt is Fwd2Bot's.
    summary_prompt: str = "Summarize the image in a few words."
    readout: ReadoutKind = ReadoutKind.HIDDEN
    temperature: float = 0.5  # of the soft words
    embedding_size: int = 256  # E
    # Hidden states that the retrieval head reads, side by side; -1 is the last layer.
    embedding_layers: tuple[int, ...] = (-1,)
    pooling: Pooling = Pooling.LEARNED
    lora_rank: int = 16
    lora_alpha: int = 16
    # Linear layers of the language model that have adapters: all, or those whose names end so.
    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    adapters: AdapterKind = AdapterKind.STAGE_SPECIFIC
    forward: ForwardKind = ForwardKind.DOUBLE
    # Numbers of first tokens that training taught the second pass to read, up to K.
    budgets: tuple[int, ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def has_soft_words(self) -> bool:
        """Whether summary tokens are mixtures of words."""
        return self.readout != ReadoutKind.HIDDEN

    def __post_init__(self) -> None:
        # A file and a caller may write plain words and lists.
        kinds = {
            "readout": ReadoutKind,
            "pooling": Pooling,
            "adapters": AdapterKind,
            "forward": ForwardKind,
        }
        for name, kind in kinds.items():
            value = getattr(self, name)
            names = [member.value for member in kind]
            _require(value in names, name, f"one of {', '.join(names)}", value)
            object.__setattr__(self, name, kind(value))
        for name in ("embedding_layers", "target_modules", "budgets"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        for name in ("token_count", "embedding_size", "lora_rank", "lora_alpha"):
            value = getattr(self, name)
            _require(
                _is_whole(value) and value > 0, name, "a whole number from 1 on", value
            )
        heat = self.temperature
        _require(_is_number(heat) and heat > 0, "temperature", "larger than 0", heat)
        prompt = self.summary_prompt
        _require(isinstance(prompt, str), "summary_prompt", "text", prompt)
        layers = self.embedding_layers
        _require(
            _all_are(layers, _is_whole), "embedding_layers", "numbers of layers", layers
        )
        targets = self.target_modules
        _require(
            _all_are(targets, _is_word),
            "target_modules",
            "names of linear layers",
            targets,
        )
        rise = self.budgets == () or self._budgets_rise_to_all()
        _require(
            rise,
            "budgets",
            f"numbers that rise to the {self.token_count} tokens",
            self.budgets,
        )
        hidden = self.readout == ReadoutKind.HIDDEN and not self.budgets
        _require(
            hidden or self.forward == ForwardKind.DOUBLE,
            "forward",
            "double with soft words or budgets",
            self.forward,
        )

    def _budgets_rise_to_all(self) -> bool:
        return are_budgets(self.budgets) and self.budgets[-1] == self.token_count

    @property
    def kept_counts(self) -> tuple[int, ...]:
        """How many of an image's summary tokens may be kept: the budgets, or all K."""
        return self.budgets or (self.token_count,)

    def values(self) -> dict[str, Any]:
        """As in `summary.json`, whose bytes, order of keys included, make the fingerprint."""
        return asdict(self)

    def save(self, folder: Path) -> None:
        """Writes `summary.json` into the folder."""
        (folder / FILE_NAME).write_text(json.dumps(self.values(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> SummaryConfig:
        """Reads `summary.json`. Raises ModelFilesMissing or ModelFilesInvalid."""
        path = folder / FILE_NAME
        try:
            values = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise ModelFilesMissing(f"no {FILE_NAME} in {folder}") from error
        except ValueError as error:
            raise ModelFilesInvalid(f"{path} is not JSON") from error
        if (
            not isinstance(values, dict)
            or values.get("format_version") != FORMAT_VERSION
        ):
            raise ModelFilesInvalid(f"{path} is not of format version {FORMAT_VERSION}")
        # A field of a newer version may change the tokens: it is refused, never ignored.
        different = set(values) ^ {field.name for field in fields(cls)}
        if different:
            raise ModelFilesInvalid(
                f"{path}: unknown or missing fields {', '.join(sorted(different))}"
            )
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ModelFilesInvalid(f"{path}: {error}") from error


def _require(holds: bool, name: str, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {what}, not {value!r}")


def _is_number(value: object) -> bool:
    # A bool is an int in Python, so that JSON's true would pass for 1.
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return type(value) is int


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _all_are(values: object, holds: Callable[[object], bool]) -> bool:
    """Whether this is a tuple of at least one value, and all are such."""
    return isinstance(values, tuple) and values != () and all(map(holds, values))


def are_budgets(value: object) -> bool:
    """Whether this is a list of whole numbers from 1 on, each larger than the one before."""
    if not isinstance(value, (list, tuple)):
        return False
    if not all(type(number) is int for number in value):
        return False
    return all(smaller < larger for smaller, larger in pairwise([0, *value]))
