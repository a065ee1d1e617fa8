"""The default model's auxiliary loss: which word each summary position of an image should say.

Positions follow the projector's start of the summary: the main object's name, then objects from
left to right or words of a caption, last their number and the background's colour, or more words of
a caption.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compressor.default_model.data.english import NUMBERS
from compressor.default_model.data.mixture import MixtureSample
from compressor.default_model.data.photos import Photo
from compressor.default_model.data.scenes import Placed, Scene
from compressor.default_model.llava import word_llava
from compressor.default_model.projector import SUMMARY_INIT_COUNT
from compressor.default_model.soft_word_projector import NAME_TOKENS
from compressor.default_model.vocabulary import name_token_ids
from compressor.fwd2bot.baselines import SUMMARY_TOKENS
from compressor.fwd2bot.model import FirstPass, SummaryLvlm
from compressor.training.config import TrainConfig
from compressor.training.sample import Sample


@pydantic_dataclass(frozen=True)
class DefaultTrainConfig(TrainConfig):
    """Settings of a run of the default model's passes. Raises RecipeInvalid."""

    # Of composed scenes: two different things, and how they lie to one another is asked.
    relation_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    # Visual tokens of cells a step sees, drawn at random; 0 keeps all.
    max_cells: NonNegativeInt = 24
    words_weight: NonNegativeFloat = 0.5  # of the word supervision

    @model_validator(mode="after")
    def _refuse_words_without_first_pass(self) -> Self:
        if self.second_pass_input != SUMMARY_TOKENS and self.words_weight:
            raise ValueError(
                f"no first pass makes {self.second_pass_input}: words_weight must be 0"
            )
        return self


_OBJECT_POSITIONS = range(NAME_TOKENS, SUMMARY_INIT_COUNT - 1)
_LAST_POSITION = SUMMARY_INIT_COUNT - 1
_CAPTION_WORDS = 6  # of a photograph, its most frequent ones


@dataclass(frozen=True)
class Target:
    """A share of what one summary position should say."""

    position: int
    token_id: int
    weight: float  # the shares of one position sum to 1


class WordSupervision:
    """Cross entropy of soft words against words known of an image (`training.auxiliary.Auxiliary`).

    Around the first pass the projector predicts out of fold.
    """

    def __init__(
        self,
        model: SummaryLvlm,
        caption_words: frozenset[str],
        weight: float,
    ) -> None:
        self._model = model
        self._caption_words = caption_words
        self._weight = weight

    @property
    def weight(self) -> float:
        """Of this loss in the total."""
        return self._weight

    def first_pass_context(
        self, batch: Sequence[Sample]
    ) -> AbstractContextManager[None]:
        """The projector with heads that were not fitted to these images."""
        base = word_llava(self._model.base)
        hidden = [_hidden_names(sample) for sample in batch]
        folds = [_fold(sample) for sample in batch]
        # A run without folds and hidden names is spared the context.
        if not any(hidden) and not base.caption_folds:
            return nullcontext()
        return base.out_of_fold(hidden, folds)

    def normalizer(self, batch: Sequence[Sample]) -> float:
        """The weight of all targets."""
        if not self._weight:
            return 0.0
        return sum(
            target.weight for targets in self._targets(batch) for target in targets
        )

    def loss(
        self,
        first: FirstPass,
        batch: Sequence[Sample],
        normalizer: float,
    ) -> Tensor:
        """Zero where the pass wrote no soft words or no image has a target."""
        if not self._weight or first.logits is None or not normalizer:
            return first.tokens.new_zeros(())
        return word_loss(first.logits, self._targets(batch), normalizer)

    def _targets(self, batch: Sequence[Sample]) -> list[list[Target]]:
        return [
            targets(sample, self._model.tokenizer, self._caption_words)
            for sample in batch
        ]


def word_loss(
    logits: Tensor,
    targets: Sequence[Sequence[Target]],
    normalizer: float,
) -> Tensor:
    """Cross entropy of (B, K, W) logits at the summary positions, over `normalizer`."""
    rows, positions, ids, weights = [], [], [], []
    for row, of_image in enumerate(targets):
        for target in of_image:
            rows.append(row)
            positions.append(target.position)
            ids.append(target.token_id)
            weights.append(target.weight)
    # A zero with a graph, so that every rank has the same backward pass.
    if not rows:
        return logits.sum() * 0
    # In float32: half precision loses the tail of a softmax over the whole vocabulary.
    log_likelihoods = logits.float().log_softmax(-1)[rows, positions, ids]
    weight = torch.tensor(weights, device=logits.device)
    return -(weight * log_likelihoods).sum() / normalizer


def targets(
    sample: Sample,
    tokenizer: PreTrainedTokenizerBase,
    caption_words: frozenset[str],
) -> list[Target]:
    """Words at summary positions that are known of a sample; other positions are left out."""
    origin = sample.origin
    if isinstance(origin, Scene):
        return _scene_targets(origin, tokenizer)
    if not isinstance(origin, Photo):
        return []
    if origin.label:
        return _name_targets(origin.label, tokenizer)
    return _caption_targets(origin.captions, tokenizer, caption_words)


def caption_tokens(text: str) -> list[str]:
    """Lower-case words of a caption."""
    return re.findall(r"[a-z]+", text.lower())


def _hidden_names(sample: Sample) -> Collection[str]:
    return sample.hidden_names if isinstance(sample, MixtureSample) else ()


def _fold(sample: Sample) -> int | None:
    return sample.origin.fold if isinstance(sample.origin, Photo) else None


def _scene_targets(scene: Scene, tokenizer: PreTrainedTokenizerBase) -> list[Target]:
    # As the projector names a scene.
    largest = max(scene.objects, key=_area)
    known = _name_targets(largest.name, tokenizer)
    # Three positions: a fourth object shows in the number at the last position alone.
    for position, placed in zip(_OBJECT_POSITIONS, scene.objects, strict=False):
        known += _shared_targets(position, _ids(f" {placed.name}", tokenizer))
    rest = f" {NUMBERS[len(scene.objects)]} {scene.background}"
    return known + _shared_targets(_LAST_POSITION, _ids(rest, tokenizer))


def _caption_targets(
    captions: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    caption_words: frozenset[str],
) -> list[Target]:
    mentions: Counter[str] = Counter()
    for text in captions:
        mentions.update(word for word in caption_tokens(text) if word in caption_words)
    # Only words that the caption heads can say: a target outside them could not be met.
    words = [word for word, _ in mentions.most_common(_CAPTION_WORDS)]
    ids = [_ids(f" {word}", tokenizer)[0] for word in words]
    if not ids:
        return []
    # Without a label there is no name; the most frequent word of the captions stands for it.
    known = _shared_targets(0, ids[:1])
    for position, token in zip(_OBJECT_POSITIONS, ids, strict=False):
        known += _shared_targets(position, [token])
    return known + _shared_targets(_LAST_POSITION, ids)


def _name_targets(name: str, tokenizer: PreTrainedTokenizerBase) -> list[Target]:
    ids = name_token_ids(name, tokenizer)
    return [Target(position, token, 1.0) for position, token in enumerate(ids)]


def _shared_targets(position: int, ids: Sequence[int]) -> list[Target]:
    return [Target(position, token, 1 / len(ids)) for token in ids]


def _area(placed: Placed) -> int:
    left, top, right, bottom = placed.box
    return (right - left) * (bottom - top)


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
