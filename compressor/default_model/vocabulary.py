"""Word lists of the default model's heads, and their token embeddings.

Knows nothing of pictures. The lists are part of the trained parts (`words.json`): row i of a head
means word i.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compressor.default_model.projector import NAME_TOKENS, WordProjector
from compressor.errors import ModelFilesInvalid, ModelFilesMissing

FILE_NAME = "words.json"
# Before cells, caption words, background colour and number, things, the main thing's name.
FRAMES = ("Patches:", ". Words:", ". Colour:", ". Things:", ". The picture shows a")
PLACES = (" left", " right", " top", " bottom")


@dataclass(frozen=True)
class Words:
    """What the heads of the projector choose from."""

    classes: tuple[str, ...]  # outputs of the vision tower's classifier, in its order
    things: tuple[str, ...]  # names of things beyond the classes
    colours: tuple[str, ...]
    counts: tuple[str, ...]  # number words, "zero" first
    captions: tuple[str, ...]  # frequent words of captions

    def save(self, folder: Path) -> None:
        """Writes `words.json`."""
        (folder / FILE_NAME).write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Words:
        """Reads `words.json`. Raises ModelFilesMissing or ModelFilesInvalid."""
        path = folder / FILE_NAME
        try:
            return cls(
                **{name: tuple(words) for name, words in json.loads(path.read_text()).items()}
            )
        except FileNotFoundError as error:
            raise ModelFilesMissing(f"no {FILE_NAME} in {folder}") from error
        except (ValueError, TypeError) as error:
            raise ModelFilesInvalid(f"{path}: not the word lists of the heads") from error


def name_token_ids(name: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """First, second, third and last token of a name as it stands within a sentence; short names
    repeat their last.
    """
    ids = tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
    return [*(ids[min(place, len(ids) - 1)] for place in range(NAME_TOKENS - 1)), ids[-1]]


def frame_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of each frame."""
    return [tokenizer(frame, add_special_tokens=False)["input_ids"] for frame in FRAMES]


def mean_embedding(
    tokenizer: PreTrainedTokenizerBase, embedding: Tensor
) -> Callable[[str], Tensor]:
    """Text → (D,) mean of its tokens' rows in the (W, D) input embedding matrix."""

    def mean(text: str) -> Tensor:
        return embedding[tokenizer(text, add_special_tokens=False)["input_ids"]].detach().mean(0)

    return mean


def fill_words(
    projector: WordProjector, words: Words, tokenizer: PreTrainedTokenizerBase, embedding: Tensor
) -> None:
    """Gives the projector the token embeddings of its words; `embedding` is the (W, D) input
    embedding matrix.
    """
    mean = mean_embedding(tokenizer, embedding)
    names = [*words.classes, *words.things]
    with torch.no_grad():
        projector.set_words(
            names=embedding[torch.tensor([name_token_ids(name, tokenizer) for name in names])],
            mean_names=torch.stack([mean(f" {name}") for name in names]),
            colours=torch.stack([mean(f" {word}") for word in words.colours]),
            counts=torch.stack([mean(f" {word}") for word in words.counts]),
            captions=torch.stack([mean(f" {word}") for word in words.captions]),
            places=torch.stack([mean(word) for word in PLACES]),
            frames=embedding[
                torch.tensor([token for ids in frame_token_ids(tokenizer) for token in ids])
            ],
        )
