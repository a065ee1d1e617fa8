"""Settings of a summary model: what, beside the weights, makes its tokens what they are.

Knows nothing of torch. Stored as `summary.json` beside the adapters; part of the fingerprint.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from compressor.errors import ModelFilesInvalid, ModelFilesMissing

FILE_NAME = "summary.json"
FORMAT_VERSION = 1

ReadoutKind = Literal["hidden", "soft_words", "soft_words_in_turn"]


@dataclass(frozen=True)
class EmbeddingPart:
    """What a part of the retrieval embedding reads of the summary positions' hidden states."""

    pools: int = 1  # mixtures of positions, side by side
    positions: tuple[int, ...] = ()  # all if empty
    layers: tuple[int, ...] = ()  # of `embedding_layers`; all if empty
    size: int = 0  # values of the embedding; 0 is an equal share


@dataclass(frozen=True)
class SummaryConfig:
    """How the first pass is read and the second pass is asked."""

    base_model: str  # name and revision of the LVLM the adapters belong to
    token_count: int = 8  # K
    summary_prompt: str = (
        "Summarize the image in a few words."  # after the image, before the summary tokens
    )
    readout: ReadoutKind = "hidden"  # "hidden" is the paper's; see readout.py
    temperature: float = 0.5  # of the soft words
    soft_word_share: float = (
        1.0  # at the start of training, of a soft word in its summary token; the rest is the draft
    )
    embedding_size: int = 256  # E
    embedding_layers: tuple[int, ...] = (
        -1,
    )  # hidden states that the retrieval head reads; -1 is the last
    embedding_parts: tuple[EmbeddingPart, ...] = (EmbeddingPart(),)  # side by side in the embedding
    lora_rank: int = 16
    lora_alpha: int = 16
    budgets: tuple[
        int, ...
    ] = ()  # of the first m tokens that training taught the second pass to read, up to K
    format_version: int = FORMAT_VERSION

    @property
    def kept_counts(self) -> tuple[int, ...]:
        """How many of an image's summary tokens may be kept: the budgets, or all K."""
        return self.budgets or (self.token_count,)

    def values(self) -> dict[str, Any]:
        """As in `summary.json`, whose bytes make the fingerprint: what is new is left out where it can be."""
        found = asdict(self)
        if not self.budgets:
            del found["budgets"]
        for part in found["embedding_parts"]:
            if not part["size"]:
                del part["size"]
        if self.embedding_parts == (EmbeddingPart(pools=self.embedding_parts[0].pools),):
            del found["embedding_parts"]
            found["embedding_pools"] = self.embedding_parts[0].pools
        return found

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
        if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
            raise ModelFilesInvalid(f"{path} is not of format version {FORMAT_VERSION}")
        names = {field.name for field in fields(cls)}
        values.setdefault("budgets", [])
        if "embedding_parts" not in values and "embedding_pools" in values:
            values["embedding_parts"] = [
                {"pools": values.pop("embedding_pools"), "positions": [], "layers": []}
            ]
        if set(values) != names:
            raise ModelFilesInvalid(
                f"{path}: unknown or missing fields {', '.join(sorted(set(values) ^ names))}"
            )
        budgets = values["budgets"]
        if budgets != [] and not (are_budgets(budgets) and budgets[-1] == values["token_count"]):
            raise ModelFilesInvalid(
                f"{path}: budgets must rise to the {values['token_count']} tokens, not {budgets}"
            )
        layers = tuple(values["embedding_layers"])
        parts = _parts(path, values["embedding_parts"])
        return cls(
            **{
                **values,
                "embedding_layers": layers,
                "embedding_parts": parts,
                "budgets": tuple(budgets),
            }
        )


def _parts(path: Path, values: object) -> tuple[EmbeddingPart, ...]:
    known = {field.name for field in fields(EmbeddingPart)}
    if (
        not isinstance(values, list)
        or not values
        or not all(isinstance(each, dict) and set(each) | {"size"} == known for each in values)
    ):
        raise ModelFilesInvalid(f"{path}: embedding_parts are a list of {', '.join(sorted(known))}")
    return tuple(
        EmbeddingPart(
            each["pools"], tuple(each["positions"]), tuple(each["layers"]), each.get("size", 0)
        )
        for each in values
    )


def are_budgets(value: object) -> bool:
    """Whether this is a list of whole numbers from 1 on, each larger than the one before."""
    if not isinstance(value, (list, tuple)) or not all(type(each) is int for each in value):
        return False
    return all(one < other for one, other in pairwise([0, *value]))
