"""CIDEr-D of generated captions (Vedantam et al., arXiv 1411.5726, sections 4 and 5.3)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_MAX_N = 4  # words of an n-gram
_SIGMA = 6.0  # words by which lengths may differ before the penalty bites
_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")

NGram = tuple[str, ...]


def cider_d(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The corpus score of a caption for each image against its people's captions; 0 to 10.

    Document frequencies are those of the references, so a score holds for this set of images alone.
    Words are lower-cased and their punctuation is dropped. Raises ValueError for no images.
    """
    if not candidates:
        raise ValueError("no captions to score")
    people = [[_ngrams(caption) for caption in captions] for captions in references]
    frequency = _document_frequency(people)
    log_images = math.log(max(2, len(people)))
    total = 0.0
    for candidate, captions in zip(candidates, people, strict=True):
        own = _Vector(_ngrams(candidate), frequency, log_images)
        scores = [
            own.similarity(_Vector(counts, frequency, log_images))
            for counts in captions
        ]
        total += sum(scores) / len(scores)
    return 10 * total / len(candidates)


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return _WORD.findall(text.lower())


def _ngrams(text: str) -> Counter[NGram]:
    """How often each n-gram of up to four words occurs."""
    tokens = words(text)
    counts: Counter[NGram] = Counter()
    for n in range(1, _MAX_N + 1):
        for start in range(len(tokens) - n + 1):
            counts[tuple(tokens[start : start + n])] += 1
    return counts


def _document_frequency(
    people: Iterable[Iterable[Counter[NGram]]],
) -> Counter[NGram]:
    """In how many images' captions an n-gram occurs."""
    frequency: Counter[NGram] = Counter()
    for captions in people:
        present: set[NGram] = set()
        for counts in captions:
            present.update(counts)
        frequency.update(present)
    return frequency


class _Vector:
    """TF-IDF weights of a caption's n-grams, by n."""

    def __init__(
        self, counts: Counter[NGram], frequency: Counter[NGram], log_images: float
    ) -> None:
        self.weights: list[dict[NGram, float]] = [{} for _ in range(_MAX_N)]
        for ngram, count in counts.items():
            rarity = log_images - math.log(max(1, frequency[ngram]))
            self.weights[len(ngram) - 1][ngram] = count * rarity
        self.norms = [
            math.sqrt(sum(weight * weight for weight in weights.values()))
            for weights in self.weights
        ]
        # As the reference implementation has it: the length is counted in pairs of words.
        self.length = sum(count for ngram, count in counts.items() if len(ngram) == 2)

    def similarity(self, reference: _Vector) -> float:
        """The mean over n of clipped cosines, times a penalty for another length; 0 to 1."""
        total = 0.0
        for n in range(_MAX_N):
            theirs = reference.weights[n]
            product = 0.0
            for ngram, weight in self.weights[n].items():
                # Clipped, so that a word said ten times counts no more than people say it.
                other = theirs.get(ngram, 0.0)
                product += min(weight, other) * other
            norms = self.norms[n] * reference.norms[n]
            total += product / norms if norms else 0.0
        difference = self.length - reference.length
        return total / _MAX_N * math.exp(-(difference**2) / (2 * _SIGMA**2))
