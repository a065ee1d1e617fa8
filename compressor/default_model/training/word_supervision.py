"""What the summary positions of the default model should say, as far as it is known of a training
image.

Knows nothing of losses. Positions follow the projector's seeds: the main thing's name, then things
from left to right or words of a caption, last how many there are and the background's colour, or
more words of a caption.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from compressor.default_model.data.english import NUMBERS
from compressor.default_model.data.photos import Photo
from compressor.default_model.projector import NAME_TOKENS, SEED_COUNT
from compressor.default_model.vocabulary import name_token_ids
from compressor.training.sample import Sample


@dataclass(frozen=True)
class Target:
    """A share of what one summary position should say."""

    position: int
    token_id: int
    weight: float  # the shares of one position sum to 1


def targets(
    sample: Sample, tokenizer: PreTrainedTokenizerBase, caption_words: frozenset[str]
) -> list[Target]:
    """What is known of a sample, as words at summary positions; positions of which nothing is known
    are left out.
    """
    if sample.origin is None:
        return []
    if isinstance(sample.origin, Photo):
        photo = sample.origin
        if photo.label:
            return _name(photo.label, tokenizer)
        counted = Counter(
            word
            for text in photo.captions
            for word in caption_tokens(text)
            if word in caption_words
        )
        words = [word for word, _ in counted.most_common(6)]
        ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in words]
        if not ids:
            return []
        found = _shared(0, ids[:1])
        for position, token in zip(range(NAME_TOKENS, SEED_COUNT - 1), ids, strict=False):
            found += _shared(position, [token])
        return found + _shared(SEED_COUNT - 1, ids)
    scene = sample.origin
    largest = max(
        scene.objects,
        key=lambda placed: (placed.box[2] - placed.box[0]) * (placed.box[3] - placed.box[1]),
    )
    found = _name(largest.name, tokenizer)
    for position, placed in zip(range(NAME_TOKENS, SEED_COUNT - 1), scene.objects, strict=False):
        found += _shared(
            position, tokenizer(f" {placed.name}", add_special_tokens=False)["input_ids"]
        )
    rest = f" {NUMBERS[len(scene.objects)]} {scene.background}"
    return found + _shared(SEED_COUNT - 1, tokenizer(rest, add_special_tokens=False)["input_ids"])


def caption_tokens(text: str) -> list[str]:
    """Lower-case words of a caption."""
    return re.findall(r"[a-z]+", text.lower())


def _name(name: str, tokenizer: PreTrainedTokenizerBase) -> list[Target]:
    return [
        Target(position, token, 1.0)
        for position, token in enumerate(name_token_ids(name, tokenizer))
    ]


def _shared(position: int, ids: Sequence[int]) -> list[Target]:
    return [Target(position, token, 1 / len(ids)) for token in ids]
