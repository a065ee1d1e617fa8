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
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compressor.default_model.data.english import NUMBERS
from compressor.default_model.data.mixture import MixtureSample
from compressor.default_model.data.photos import Photo
from compressor.default_model.data.scenes import Scene
from compressor.default_model.projector import NAME_TOKENS, SEED_COUNT
from compressor.default_model.vocabulary import name_token_ids
from compressor.fwd2bot.model import FirstPass, SummaryLvlm
from compressor.training.sample import Sample


@dataclass(frozen=True)
class Target:
    """A share of what one summary position should say."""

    position: int
    token_id: int
    weight: float  # the shares of one position sum to 1


class WordSupervision:
    """The default model's auxiliary loss: cross entropy of its soft words against words known of an
    image.

    Around the first pass it hides from the projector what it learnt of these very images, so that
    the passes train on out-of-fold predictions; in-fold ones are over-confident.
    """

    def __init__(self, model: SummaryLvlm, caption_words: frozenset[str], weight: float) -> None:
        self._model, self._caption_words, self._weight = model, caption_words, weight

    @property
    def weight(self) -> float:
        """Of this loss in the total."""
        return self._weight

    def first_pass_context(self, batch: Sequence[Sample]) -> AbstractContextManager[None]:
        """The projector as if it had never learnt from these images."""
        hidden = [
            sample.hidden_names if isinstance(sample, MixtureSample) else frozenset()
            for sample in batch
        ]
        folds = [
            sample.origin.fold if isinstance(sample.origin, Photo) else None for sample in batch
        ]
        base = self._model.base
        if not any(hidden) and not base.caption_folds:
            return nullcontext()
        return base.as_if_unseen(hidden, folds)

    def normalizer(self, batch: Sequence[Sample]) -> float:
        """The weight of all targets."""
        if not self._weight:
            return 0.0
        return sum(target.weight for targets in self._targets(batch) for target in targets)

    def loss(self, first: FirstPass, batch: Sequence[Sample], normalizer: float) -> Tensor:
        """Zero where the pass wrote no soft words or nothing is known of any image."""
        if not self._weight or first.logits is None or not normalizer:
            return first.tokens.new_zeros(())
        return word_loss(first.logits, self._targets(batch), normalizer)

    def _targets(self, batch: Sequence[Sample]) -> list[list[Target]]:
        return [targets(sample, self._model.tokenizer, self._caption_words) for sample in batch]


def word_loss(logits: Tensor, targets: Sequence[Sequence[Target]], normalizer: float) -> Tensor:
    """Cross entropy of (B, K, W) logits at the summary positions against targets, over `normalizer`."""
    flat = [(row, target) for row, known in enumerate(targets) for target in known]
    if not flat:
        return logits.sum() * 0
    rows = torch.tensor([row for row, _ in flat], device=logits.device)
    positions = torch.tensor([target.position for _, target in flat], device=logits.device)
    ids = torch.tensor([target.token_id for _, target in flat], device=logits.device)
    weights = torch.tensor([target.weight for _, target in flat], device=logits.device)
    likelihoods = logits.float().log_softmax(-1)[rows, positions, ids]
    return -(weights * likelihoods).sum() / normalizer


def targets(
    sample: Sample, tokenizer: PreTrainedTokenizerBase, caption_words: frozenset[str]
) -> list[Target]:
    """What is known of a sample, as words at summary positions; positions of which nothing is known
    are left out.
    """
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
    if not isinstance(sample.origin, Scene):
        return []
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
