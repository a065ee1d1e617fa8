"""Short texts that a sentence embedding is learnt from: captions, captions with words exchanged, sentences, names.

Knows nothing of images or models. The same seed gives the same texts.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from compressor.training.data.photos import LABEL_CAPTIONS, Photo
from compressor.training.data.vocabulary import with_article
from compressor.training.data.wordnet import Noun, WordNet, speaking_of

EXCHANGED, SENTENCES, NAMES = 7000, 4000, 4000  # texts of each kind beside the captions
_OTHER_WEIGHT = 0.2  # of sentences and names: what else there is, which counting as much made captions worse
# Exchanged for one another; an article or a plural may then be wrong, as in captions.
_QUALITIES = (
    "red", "blue", "green", "yellow", "black", "white", "brown", "pink", "orange", "purple", "gray", "small", "large",
    "young", "old", "two", "three", "several",
)  # fmt: skip


def teaching_texts(photos: Sequence[Photo], wordnet: WordNet, excluded: Collection[str], seed: int) -> dict[str, float]:
    """Texts and how much each counts; none but the photographs' own captions has a name of `excluded` in it."""
    rng = random.Random(f"teaching texts/{seed}")
    captions = [text for photo in photos for text in photo.captions]
    frequent = wordnet.frequent
    exchange = _Exchange(captions, frequent, rng)
    speaks = speaking_of(excluded)
    changed = [text for text in (exchange(rng.choice(captions)) for _ in range(EXCHANGED)) if not speaks.search(text)]
    sentences = rng.sample(wordnet.sentences, min(SENTENCES, len(wordnet.sentences)))
    weights = [1 + noun.count**0.5 for noun in frequent]
    names = [photo_of(noun, rng) for noun in rng.choices(frequent, weights, k=NAMES)]
    return {**dict.fromkeys([*sentences, *names], _OTHER_WEIGHT), **dict.fromkeys([*captions, *changed], 1.0)}


def photo_of(noun: Noun, rng: random.Random) -> str:
    """A caption that names the noun and nothing else."""
    return rng.choice(LABEL_CAPTIONS).format(with_article(noun.text))


class _Exchange:
    """A caption's nouns against others of their kind, its activities and qualities against those of other captions."""

    def __init__(self, captions: Sequence[str], nouns: Sequence[Noun], rng: random.Random) -> None:
        self._rng = rng
        self._kind = {noun.text: noun.kind for noun in nouns}
        self._of_kind: dict[str, list[str]] = defaultdict(list)
        for noun in nouns:
            self._of_kind[noun.kind].append(noun.text)
        said = {word for text in captions for word in text.lower().split()}
        self._activities = sorted(word for word in said if re.fullmatch("[a-z]+ing", word) and word not in self._kind)

    def __call__(self, caption: str) -> str:
        return " ".join(map(self._word, caption.split()))

    def _word(self, word: str) -> str:
        plain = word.lower().strip(".,")
        if plain in self._kind:
            return self._rng.choice(self._of_kind[self._kind[plain]]) if self._rng.random() < 0.6 else word
        if plain in self._activities:
            return self._rng.choice(self._activities) if self._rng.random() < 0.5 else word
        if plain in _QUALITIES:
            return self._rng.choice(_QUALITIES) if self._rng.random() < 0.6 else word
        return word
