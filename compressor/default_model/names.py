"""The naming tower's class names, and how the language model reads a name.

`names.json` has ImageNet's thousand classes in everyday words, in the order of the tower's outputs.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compressor.default_model.soft_word_projector import NAME_TOKENS

NAMES_FILE = Path(__file__).with_name("names.json")


@cache
def class_names() -> tuple[str, ...]:
    """A name for each output of the naming tower's classifier."""
    return tuple(json.loads(NAMES_FILE.read_text(encoding="utf-8")))


def name_token_ids(name: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """First three tokens and the last of a name in a sentence; short names repeat their last."""
    ids = _ids(name, tokenizer)
    # Most names have at most four tokens; the last one mostly tells a long name's kind.
    last = len(ids) - 1
    start = [ids[min(place, last)] for place in range(NAME_TOKENS - 1)]
    return [*start, ids[last]]


def mean_embedding(
    name: str, tokenizer: PreTrainedTokenizerBase, embedding: Tensor
) -> Tensor:
    """(D,) mean of a name's rows in the (W, D) input embedding matrix."""
    return embedding[torch.tensor(_ids(name, tokenizer))].mean(0)


def _ids(name: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    # With the space that a word has within a sentence: without it, it is another token.
    ids: list[int] = tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
    return ids
