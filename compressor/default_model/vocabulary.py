"""Word lists of the default model's heads, and their token embeddings.

The lists are stored with the weights (`words.json`): row i of a head means word i.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compressor.default_model.projector import WordProjector
from compressor.default_model.soft_word_projector import NAME_TOKENS
from compressor.errors import ModelFilesInvalid, ModelFilesMissing

FILE_NAME = "words.json"
# Before cells, caption words, background colour and number, detections, the main object's name.
# Without prefixes the untrained language model's likeliest word is the right sub-token of the name
# in 0, 2 and 2 % of photographs (first three summary positions), with them in 47, 36 and 20 %.
TEXT_PREFIXES = (
    "Patches:",
    ". Words:",
    ". Colour:",
    ". Things:",
    ". The picture shows a",
)
# With the space that words have within a sentence: without it they are other tokens.
PLACES = (" left", " right", " top", " bottom")


# Names of the fields in files of released weights.
_STORED_NAMES = {"objects": "things"}


@dataclass(frozen=True)
class Words:
    """What the heads of the projector choose from."""

    classes: tuple[str, ...]  # outputs of the vision tower's classifier, in its order
    objects: tuple[str, ...]  # names of objects beyond the classes
    colours: tuple[str, ...]
    counts: tuple[str, ...]  # number words, "zero" first
    captions: tuple[str, ...]  # frequent words of captions

    def save(self, folder: Path) -> None:
        """Writes `words.json`."""
        stored = {
            _STORED_NAMES.get(name, name): words for name, words in asdict(self).items()
        }
        (folder / FILE_NAME).write_text(json.dumps(stored) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Words:
        """Reads `words.json`. Raises ModelFilesMissing or ModelFilesInvalid."""
        path = folder / FILE_NAME
        try:
            stored = json.loads(path.read_text())
            lists = {
                field.name: tuple(stored.pop(_STORED_NAMES.get(field.name, field.name)))
                for field in fields(cls)
            }
        except FileNotFoundError as error:
            raise ModelFilesMissing(f"no {FILE_NAME} in {folder}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelFilesInvalid(
                f"{path}: not the word lists of the heads"
            ) from error
        if stored:
            raise ModelFilesInvalid(f"{path}: unknown word lists {', '.join(stored)}")
        return cls(**lists)


def name_token_ids(name: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """First three tokens and the last of a name in a sentence; short names repeat their last."""
    ids = tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
    # Most names have at most four tokens; the last one mostly tells a long name's kind.
    last = len(ids) - 1
    start = [ids[min(place, last)] for place in range(NAME_TOKENS - 1)]
    return [*start, ids[last]]


def prefix_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of each text prefix."""
    return [
        tokenizer(prefix, add_special_tokens=False)["input_ids"]
        for prefix in TEXT_PREFIXES
    ]


def mean_embedding(
    tokenizer: PreTrainedTokenizerBase, embedding: Tensor
) -> Callable[[str], Tensor]:
    """Text → (D,) mean of its tokens' rows in the (W, D) input embedding matrix."""

    def mean(text: str) -> Tensor:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return embedding[ids].detach().mean(0)

    return mean


def fill_words(
    projector: WordProjector,
    words: Words,
    tokenizer: PreTrainedTokenizerBase,
    embedding: Tensor,
) -> None:
    """Gives the projector the token embeddings of its words, rows of the (W, D) input embedding."""
    mean = mean_embedding(tokenizer, embedding)

    def means(texts: Sequence[str]) -> Tensor:
        # A space before a word: the token that it has within a sentence.
        return torch.stack([mean(f" {text}") for text in texts])

    names = [*words.classes, *words.objects]
    name_ids = torch.tensor([name_token_ids(name, tokenizer) for name in names])
    prefix_ids = torch.tensor(list(chain.from_iterable(prefix_token_ids(tokenizer))))
    with torch.no_grad():
        projector.set_words(
            names=embedding[name_ids],
            mean_names=means(names),
            colours=means(words.colours),
            counts=means(words.counts),
            captions=means(words.captions),
            places=torch.stack([mean(word) for word in PLACES]),
            prefixes=embedding[prefix_ids],
        )
