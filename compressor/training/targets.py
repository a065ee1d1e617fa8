"""What the summary positions of the default model should say, as far as it is known of a training image.

Knows nothing of losses. Positions follow the projector's seeds: the main thing's name (0–2), two more things (3, 4),
how many (5), the background's colour (6), a word of the caption (7).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from compressor.training.data.mixture import Sample
from compressor.training.data.photos import Photo
from compressor.training.data.vocabulary import NUMBERS
from compressor.words import NOTHING, name_token_ids


@dataclass(frozen=True)
class Target:
    """A share of what one summary position should say."""

    position: int
    token_id: int
    weight: float  # the shares of one position sum to 1


def targets(sample: Sample, tokenizer: PreTrainedTokenizerBase, caption_words: frozenset[str]) -> list[Target]:
    """What is known of a sample, as words at summary positions; positions of which nothing is known are left out."""
    if isinstance(sample.origin, Photo):
        photo = sample.origin
        if photo.label:
            return _name(photo.label, tokenizer)
        counted = Counter(word for text in photo.captions for word in caption_tokens(text) if word in caption_words)
        words = [word for word, _ in counted.most_common(6)]
        ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in words]
        if not ids:
            return []
        return _shared(0, ids[:1]) + _shared(3, ids[1:3]) + _shared(4, ids[3:]) + _shared(7, ids)
    scene = sample.origin
    names = [name for name, _ in Counter(scene.counts).most_common()]
    found = _name(names[0], tokenizer)
    for position, place in ((3, 1), (4, 2)):
        text = f" {names[place]}" if place < len(names) else NOTHING
        found += _shared(position, tokenizer(text, add_special_tokens=False)["input_ids"])
    rest = "".join(f" {name}" for name in names[3:]) or NOTHING
    for position, text in ((5, f" {NUMBERS[len(scene.objects)]}"), (6, f" {scene.background}"), (7, rest)):
        found += _shared(position, tokenizer(text, add_special_tokens=False)["input_ids"])
    return found


def caption_tokens(text: str) -> list[str]:
    """Lower-case words of a caption."""
    return re.findall(r"[a-z]+", text.lower())


def _name(name: str, tokenizer: PreTrainedTokenizerBase) -> list[Target]:
    return [Target(position, token, 1.0) for position, token in enumerate(name_token_ids(name, tokenizer))]


def _shared(position: int, ids: Sequence[int]) -> list[Target]:
    return [Target(position, token, 1 / len(ids)) for token in ids]
