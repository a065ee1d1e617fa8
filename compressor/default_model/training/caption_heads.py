"""What captions say of a picture, by ridge regression from the frozen vision tower's features.

Knows nothing of the language model. A head that has seen a photograph's captions knows them by
heart; whoever learns to read what the heads say would trust it too much. So there are also heads
that were kept from a fold of the photographs each, and later stages see a training photograph
through those that never saw it. Shapes: M pictures, C features, W words, D hidden size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compressor.default_model.data.photos import FOLDS, Photo
from compressor.default_model.projector import CaptionHeads, WordProjector, evened
from compressor.default_model.training.heads import Seen, mean_features
from compressor.default_model.training.word_supervision import caption_tokens
from compressor.default_model.vocabulary import Words

FOLDS_FILE = "folds.safetensors"  # beside the trained parts; needed in training alone
# photographs (a mirrored one counts) whose captions must have a word for it to be in the list
FEWEST_MENTIONS = 16
# Words that say nothing of a picture by themselves.
_EMPTY_WORDS = frozenset(
    {
        "a", "an", "the", "in", "on", "of", "is", "are", "with", "at", "to", "and", "it", "its", "his", "her",
        "their", "up", "from", "by", "while", "as", "for", "into", "through", "out", "over", "off", "near",
        "down", "that", "one", "another", "some", "other", "who", "has", "have", "s", "being", "there", "him",
        "each", "something",
    }
)  # fmt: skip
_SHARES_PENALTY, _SENSE_PENALTY = 3000.0, 8000.0
_BLANKS = 400  # scenes that teach the heads to keep quiet on drawings
_BLANK_WEIGHT = 0.3


def caption_words(photos: Sequence[Photo]) -> tuple[str, ...]:
    """Frequent words of the training captions, most frequent first, equally frequent ones by the
    alphabet.
    """
    mentions: Counter[str] = Counter()
    for photo in photos:
        mentions.update(
            {word for text in photo.captions for word in caption_tokens(text)} - _EMPTY_WORDS
        )
    order = sorted(mentions.items(), key=lambda each: (-each[1], each[0]))
    return tuple(word for word, count in order if count >= FEWEST_MENTIONS)


def fit_captions(
    projector: WordProjector, words: Words, seen: Seen, embed: Callable[[str], Tensor]
) -> list[CaptionHeads]:
    """Fits the projector's two heads to all photographs; returns those that were kept from each fold.

    `embed` gives a text's (D,) mean token embedding.
    """
    rows = [row for row, photo in enumerate(seen.photos) if photo.captions]
    column = {word: place for place, word in enumerate(words.captions)}
    shares = torch.zeros(len(rows), len(column))
    for place, row in enumerate(rows):
        photo = seen.photos[row]
        for text in photo.captions:
            for word in {word for word in caption_tokens(text) if word in column}:
                shares[place, column[word]] += 1 / len(photo.captions)
    senses = torch.stack(
        [torch.stack([embed(text) for text in seen.photos[row].captions]).mean(0) for row in rows]
    )
    photos = evened(mean_features(projector, seen.photo_cells[rows]))
    blanks = evened(mean_features(projector, seen.scene_cells[:_BLANKS]))
    length = projector.caption_words.norm(dim=-1).mean()
    folds = torch.tensor([seen.photos[row].fold for row in rows])
    every = torch.ones(len(rows), dtype=torch.bool)
    whole, *kept_back = (
        _fitted(photos[kept], blanks, shares[kept], senses[kept], length)
        for kept in (every, *(folds != fold for fold in range(FOLDS)))
    )
    for head, found in ((projector.captions, whole.captions), (projector.sense, whole.sense)):
        head.load_state_dict(found.state_dict())
    return kept_back


def save_folds(folds: Sequence[CaptionHeads], folder: Path) -> None:
    """Writes the heads that were kept from each fold, in float16."""
    named = {
        f"{number}.{name}": head
        for number, heads in enumerate(folds)
        for name, head in vars(heads).items()
    }
    state = {
        f"{name}.{part}": value.half().contiguous()
        for name, head in named.items()
        for part, value in head.state_dict().items()
    }
    save_file(state, folder / FOLDS_FILE)


def load_folds(folder: Path) -> list[CaptionHeads]:
    """The heads in a folder of trained parts; none where the folder has none, as the shipped one."""
    if not (folder / FOLDS_FILE).exists():
        return []
    state = load_file(folder / FOLDS_FILE)
    return [
        CaptionHeads(*(_linear(state[f"{fold}.{name}.weight"], state[f"{fold}.{name}.bias"])
                       for name in ("captions", "sense")))
        for fold in range(FOLDS)
    ]  # fmt: skip


def _fitted(
    photos: Tensor, blanks: Tensor, shares: Tensor, senses: Tensor, length: Tensor
) -> CaptionHeads:
    """Heads from (M, C) and (blanks, C) inputs to (M, W) and (M, D); scenes are to have the mean of
    photographs.
    """
    mean, deviation = photos.mean(0), photos.std(0) + 0.05
    scaled = (torch.cat([photos, blanks]) - mean) / deviation
    weights = torch.ones(len(scaled), 1)
    weights[len(photos) :] = _BLANK_WEIGHT

    def slopes(wanted: Tensor, penalty: float) -> Tensor:
        around = torch.cat([wanted - wanted.mean(0), torch.zeros(len(blanks), wanted.shape[1])])
        gram = scaled.T @ (weights * scaled) + penalty * torch.eye(scaled.shape[1])
        return torch.linalg.solve(gram, scaled.T @ (weights * around))

    def head(found: Tensor, average: Tensor) -> nn.Linear:
        return _linear((found / deviation[:, None]).T, average - (mean / deviation) @ found)

    sense = slopes(senses, _SENSE_PENALTY)
    # As long as a word is, for a mean of many words is much shorter.
    sense *= length / (scaled[: len(photos)] @ sense).norm(dim=-1).mean()
    return CaptionHeads(
        head(slopes(shares, _SHARES_PENALTY), shares.mean(0)),
        head(sense, torch.zeros(sense.shape[1])),
    )


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return head.requires_grad_(False)
