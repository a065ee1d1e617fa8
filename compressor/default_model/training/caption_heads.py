"""Fits what captions say of a picture, by ridge regression from the frozen tower's features.

A head fitted to a photograph's captions repeats them, and later stages that train on its
predictions would trust it too much. They train on out-of-fold predictions (cross-fitting): for each
fold of the photographs there are heads that were fitted without it. Shapes: M pictures, C features,
W words, D hidden size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compressor.default_model.data.photos import FOLDS, Photo
from compressor.default_model.projector import CaptionHeads, WordProjector, power_normalise
from compressor.default_model.training.heads import CachedFeatures, mean_features
from compressor.default_model.training.word_supervision import caption_tokens
from compressor.default_model.vocabulary import Words

FOLDS_FILE = "folds.safetensors"  # beside the weights; only training needs it
MIN_MENTIONS = 8  # photographs whose captions must have a word for it to be in the list
# Words that say nothing of a picture by themselves.
_EMPTY_WORDS = frozenset(
    {
        "a", "an", "the", "in", "on", "of", "is", "are", "with", "at", "to", "and", "it", "its",
        "his", "her", "their", "up", "from", "by", "while", "as", "for", "into", "through", "out",
        "over", "off", "near", "down", "that", "one", "another", "some", "other", "who", "has",
        "have", "s", "being", "there", "him", "each", "something",
    }
)  # fmt: skip
_SHARES_PENALTY, _EMBEDDING_PENALTY = 3000.0, 8000.0
_BLANKS = 400  # scenes on which the heads learn to say nothing: drawings have no captions
_BLANK_WEIGHT = 0.3
# Field of CaptionHeads → its name in the folds' file.
_STORED_NAMES = {"captions": "captions", "caption_embedding": "sense"}


def caption_words(photos: Sequence[Photo]) -> tuple[str, ...]:
    """Frequent words of the captions, most frequent first, ties by the alphabet."""
    mentions: Counter[str] = Counter()
    for photo in photos:
        # Five captions of one photograph say the same word five times; it counts once.
        words: set[str] = set()
        for text in photo.captions:
            words.update(caption_tokens(text))
        mentions.update(words - _EMPTY_WORDS)
    ranked = sorted(mentions.items(), key=lambda mention: (-mention[1], mention[0]))
    return tuple(word for word, count in ranked if count >= MIN_MENTIONS)


def fit_captions(
    projector: WordProjector,
    words: Words,
    features: CachedFeatures,
    embed: Callable[[str], Tensor],
) -> list[CaptionHeads]:
    """Fits the projector's two heads to all photographs; returns the heads without each fold.

    `embed` gives a text's (D,) mean token embedding.
    """
    rows = [row for row, photo in enumerate(features.photos) if photo.captions]
    captioned = [features.photos[row] for row in rows]
    shares = _word_shares(captioned, words)
    embeddings = torch.stack([_mean_caption(photo, embed) for photo in captioned])
    # Float32 features of all photographs fit into memory, and a closed form needs no step size.
    photos = power_normalise(mean_features(projector, features.photo_cells[rows]))
    blanks = power_normalise(mean_features(projector, features.scene_cells[:_BLANKS]))
    word_length = projector.caption_words.norm(dim=-1).mean()
    folds = torch.tensor([photo.fold for photo in captioned])

    def fitted_to(chosen: Tensor) -> CaptionHeads:
        targets = _Targets(shares[chosen], embeddings[chosen], word_length)
        return _ridge(photos[chosen], blanks, targets)

    whole = fitted_to(torch.ones(len(rows), dtype=torch.bool))
    projector.captions.load_state_dict(whole.captions.state_dict())
    projector.caption_embedding.load_state_dict(whole.caption_embedding.state_dict())
    return [fitted_to(folds != fold) for fold in range(FOLDS)]


def save_folds(folds: Sequence[CaptionHeads], folder: Path) -> None:
    """Writes the heads without each fold, in float16."""
    state: dict[str, Tensor] = {}
    for fold, heads in enumerate(folds):
        for field, stored in _STORED_NAMES.items():
            head: nn.Linear = getattr(heads, field)
            for part, value in head.state_dict().items():
                state[f"{fold}.{stored}.{part}"] = value.half().contiguous()
    save_file(state, folder / FOLDS_FILE)


def load_folds(folder: Path) -> list[CaptionHeads]:
    """The heads without each fold; none where the folder has none, as that of released weights."""
    if not (folder / FOLDS_FILE).exists():
        return []
    state = load_file(folder / FOLDS_FILE)

    def head(fold: int, field: str) -> nn.Linear:
        key = f"{fold}.{_STORED_NAMES[field]}"
        return _linear(state[f"{key}.weight"], state[f"{key}.bias"])

    return [
        CaptionHeads(head(fold, "captions"), head(fold, "caption_embedding"))
        for fold in range(FOLDS)
    ]


@dataclass(frozen=True)
class _Targets:
    """What the heads of M photographs are fitted to."""

    shares: Tensor  # (M, W) of the captions with each word
    embeddings: Tensor  # (M, D) mean token embedding of the captions
    word_length: Tensor  # mean length of a word's embedding, a scalar


def _word_shares(photos: Sequence[Photo], words: Words) -> Tensor:
    """(M, W) share of each photograph's captions that have the word."""
    column = {word: place for place, word in enumerate(words.captions)}
    shares = torch.zeros(len(photos), len(column))
    for row, photo in enumerate(photos):
        for text in photo.captions:
            for word in set(caption_tokens(text)) & column.keys():
                shares[row, column[word]] += 1 / len(photo.captions)
    return shares


def _mean_caption(photo: Photo, embed: Callable[[str], Tensor]) -> Tensor:
    return torch.stack([embed(text) for text in photo.captions]).mean(0)


def _ridge(
    photos: Tensor,
    blanks: Tensor,
    targets: _Targets,
) -> CaptionHeads:
    """Heads from (M, C) inputs of photographs and (blanks, C) of scenes.

    Scenes are to have the photographs' mean, which says of no picture more than of another.
    """
    mean = photos.mean(0)
    std = photos.std(0) + 0.05  # some features are nearly always 0
    scaled = (torch.cat([photos, blanks]) - mean) / std
    weights = torch.ones(len(scaled), 1)
    weights[len(photos) :] = _BLANK_WEIGHT

    def slopes(target: Tensor, penalty: float) -> Tensor:
        # A centred target of 0 is the photographs' mean.
        blank = torch.zeros(len(blanks), target.shape[1])
        centred = torch.cat([target - target.mean(0), blank])
        gram = scaled.T @ (weights * scaled) + penalty * torch.eye(scaled.shape[1])
        slope: Tensor = torch.linalg.solve(gram, scaled.T @ (weights * centred))
        return slope

    def head(slope: Tensor, average: Tensor) -> nn.Linear:
        return _linear((slope / std[:, None]).T, average - (mean / std) @ slope)

    embedding = slopes(targets.embeddings, _EMBEDDING_PENALTY)
    # The mean of many words is much shorter than a word, and the language model would hardly see
    # it: it is made as long as a word is on average.
    predicted_length = (scaled[: len(photos)] @ embedding).norm(dim=-1).mean()
    embedding *= targets.word_length / predicted_length
    return CaptionHeads(
        head(slopes(targets.shares, _SHARES_PENALTY), targets.shares.mean(0)),
        head(embedding, torch.zeros(embedding.shape[1])),
    )


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    head.requires_grad_(False)
    return head
