"""Calibration: from a model's own scores to probabilities that mean what they say.

Two scores have a curve: the cosine of an image and a search text, and the mean probability of an
answer's tokens. Method: isotonic regression (Zadrozny and Elkan, "Transforming Classifier Scores
into Accurate Multiclass Probability Estimates", 2002), interpolated between the centres of its
blocks (Oron and Flournoy, "Centered Isotonic Regression", 2017). It assumes no form of the curve;
only that a higher score is no less likely right. The probability holds for scores of the kind the
curve was fitted on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidCalibration
from index.files import write_bytes

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
VERSION = 3  # version 2 had logistic curves; version 1 one for all texts, and none for answers
RIGHT_ABOVE_THRESHOLD = 0.8  # share of the answers that the service calls sure
_MAX_LABEL_WORDS = 3
_MAX_PHRASE_WORDS = 7
# The share of fewer that match has a standard error of more than 0.05.
_LEAST_PAIRS = 100
# Interpolated between these logits a logistic curve is off by less than 0.001.
_LOGITS = np.linspace(-8, 8, 65)


class QueryKind(StrEnum):
    """Search texts of different lengths have cosines of different sizes, and a curve each."""

    LABEL = "label"  # up to 3 words: "zebra", "a golden retriever"
    PHRASE = "phrase"  # 4 to 7 words: "a photo of a zebra"
    SENTENCE = "sentence"  # 8 words or more


def query_kind(text: str) -> QueryKind:
    """The kind of a search text, by its number of words."""
    count = len(text.split())
    if count <= _MAX_LABEL_WORDS:
        return QueryKind.LABEL
    return QueryKind.PHRASE if count <= _MAX_PHRASE_WORDS else QueryKind.SENTENCE


@dataclass(frozen=True)
class Curve:
    """A probability at some scores; linear between them, constant outside."""

    scores: tuple[float, ...]  # rising
    probabilities: tuple[float, ...]  # never falling

    @classmethod
    def logistic(cls, slope: float, intercept: float) -> Curve:
        """1 / (1 + exp(-(slope · score + intercept))), to 0.001; `slope` is positive."""
        scores = (_LOGITS - intercept) / slope
        probabilities = 1 / (1 + np.exp(-_LOGITS))
        return cls(tuple(scores.tolist()), tuple(probabilities.tolist()))

    def probability(self, score: float) -> float:
        """The probability at a score, from 0 to 1."""
        return float(np.interp(score, self.scores, self.probabilities))

    def score(self, probability: float) -> float | None:
        """The lowest score at which the curve reaches this probability, None if it never does."""
        if probability > self.probabilities[-1]:
            return None
        return float(np.interp(probability, self.probabilities, self.scores))

    @property
    def is_usable(self) -> bool:
        """Whether it is a curve at all: what a file says may be anything."""
        scores, probabilities = np.array(self.scores), np.array(self.probabilities)
        return bool(
            len(scores) == len(probabilities) > 0
            and np.isfinite(scores).all()
            and (np.diff(scores) > 0).all()
            and (np.diff(probabilities) >= 0).all()
            # A comparison with NaN is false.
            and probabilities[0] >= 0
            and probabilities[-1] <= 1
        )


@dataclass(frozen=True)
class _Block:
    """Pairs of neighbouring scores that have one probability."""

    score_sum: float
    matches: int
    count: int

    @property
    def share(self) -> float:
        return self.matches / self.count

    def __add__(self, other: _Block) -> _Block:
        return _Block(
            self.score_sum + other.score_sum,
            self.matches + other.matches,
            self.count + other.count,
        )


@dataclass(frozen=True)
class AnswerCalibration:
    """From the mean probability of an answer's tokens to the probability that it is right."""

    curve: Curve
    threshold: float  # an answer of lower probability is unsure

    def is_unsure(self, probability: float) -> bool:
        """Whether an answer that is right with this probability may well be wrong."""
        return probability < self.threshold


@dataclass(frozen=True)
class Calibration:
    """The curves of one model."""

    fingerprint: str  # of the model that made the scores
    queries: Mapping[QueryKind, Curve]  # one for each kind
    answers: AnswerCalibration | None = None

    def curve_of(self, text: str) -> Curve:
        """The curve of a search text, by its kind."""
        return self.queries[query_kind(text)]


def fit_curve(scores: Doubles, matches: Bools) -> Curve:
    """The curve that makes the matches (n,) most likely, given their scores (n,).

    Raises InvalidCalibration unless all scores are finite, there are matches and non-matches, and
    matches score higher.
    """
    scores = np.asarray(scores, dtype=np.float64)
    matches = np.asarray(matches, dtype=bool)
    are_pairs = scores.ndim == 1 and scores.shape == matches.shape
    if not are_pairs or not np.isfinite(scores).all():
        raise InvalidCalibration(
            f"scores {scores.shape} and matches {matches.shape} must be finite pairs (n,)"
        )
    positives = int(matches.sum())
    negatives = len(matches) - positives
    if not positives or not negatives:
        raise InvalidCalibration(
            "a calibration needs pairs that match and pairs that do not"
        )
    blocks = _of_enough_pairs(_rising_blocks(scores, matches))
    if len(blocks) < 2:
        raise InvalidCalibration(
            "matches score no higher than the others: these scores predict nothing"
        )
    # Where all of a few pairs match, the next one still may not (Laplace's rule of succession).
    lowest = 1 / (blocks[0].count + 2)
    highest = 1 - 1 / (blocks[-1].count + 2)
    shares = np.clip([block.share for block in blocks], lowest, highest)
    centres = [block.score_sum / block.count for block in blocks]
    return Curve(tuple(centres), tuple(shares.tolist()))


def _rising_blocks(scores: Doubles, matches: Bools) -> list[_Block]:
    """Blocks whose shares rise with their scores, by pooling adjacent violators.

    Pairs of one score share a block, in whatever order they come.
    """
    distinct, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    right = np.bincount(group, weights=matches)
    blocks: list[_Block] = []
    for score, matching, count in zip(distinct, right, counts, strict=True):
        block = _Block(float(score * count), int(matching), int(count))
        while blocks and blocks[-1].share >= block.share:
            block = blocks.pop() + block
        blocks.append(block)
    return blocks


def _of_enough_pairs(blocks: Sequence[_Block]) -> list[_Block]:
    """Neighbouring blocks as one until each has enough pairs for its share to be told."""
    matches = sum(block.matches for block in blocks)
    count = sum(block.count for block in blocks)
    # Few matches at the top would else be lost among the others, and few pairs be one block.
    least = min(_LEAST_PAIRS, matches, count - matches, count // 4)
    merged: list[_Block] = []
    for block in blocks:
        if merged and merged[-1].count < least:
            merged[-1] += block
        else:
            merged.append(block)
    if len(merged) > 1 and merged[-1].count < least:
        last = merged.pop()
        merged[-1] += last
    return merged


def fit_answers(probabilities: Doubles, right: Bools) -> AnswerCalibration:
    """The curve and threshold of answers, from mean token probabilities (n,) and verdicts (n,).

    The threshold is the lowest above which 80 % of these answers are right; 1 if there is none.
    Raises InvalidCalibration as `fit_curve` does.
    """
    curve = fit_curve(probabilities, right)
    order = np.argsort(-probabilities, kind="stable")
    counts = np.arange(1, len(order) + 1)
    shares = np.cumsum(right[order]) / counts
    # Answers of equal probability lie on one side of the threshold, so only the last of them can be
    # the lowest that is sure.
    sorted_probabilities = probabilities[order]
    is_last = np.append(sorted_probabilities[:-1] > sorted_probabilities[1:], True)
    sure = np.flatnonzero(is_last & (shares >= RIGHT_ABOVE_THRESHOLD))
    if not len(sure):
        return AnswerCalibration(curve, threshold=1.0)
    lowest = float(sorted_probabilities[sure[-1]])
    return AnswerCalibration(curve, threshold=curve.probability(lowest))


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Writes a JSON file to ship with the model. Raises OSError."""
    queries = {kind.value: asdict(curve) for kind, curve in calibration.queries.items()}
    body: dict[str, Any] = {
        "version": VERSION,
        "fingerprint": calibration.fingerprint,
        "queries": queries,
    }
    if calibration.answers is not None:
        answers = calibration.answers
        body["answers"] = {**asdict(answers.curve), "threshold": answers.threshold}
    text = json.dumps(body, indent=1)
    write_bytes(path, text.encode())


def read_calibration(path: Path, fingerprint: str) -> Calibration:
    """The calibration in a file. Raises InvalidCalibration, also if it is of another model."""
    try:
        body = json.loads(path.read_bytes())
        owner = str(body["fingerprint"])
        queries, answers = _curves(body, path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidCalibration(
            f"{path.name} cannot be read as a calibration"
        ) from error
    if owner != fingerprint:
        raise InvalidCalibration(
            f"{path.name} was fitted on the scores of another model"
        )
    curves = list(queries.values())
    if answers is not None:
        curves.append(answers.curve)
    usable = [curve.is_usable for curve in curves]
    if answers is not None:
        usable.append(0 <= answers.threshold <= 1)
    if not all(usable):
        raise InvalidCalibration(f"{path.name} holds no usable curve")
    return Calibration(owner, queries, answers)


def _curves(
    body: Mapping[str, Any], path: Path
) -> tuple[dict[QueryKind, Curve], AnswerCalibration | None]:
    version = body["version"]
    if version == 1:
        return dict.fromkeys(QueryKind, _logistic(body)), None
    if version not in (2, VERSION):
        raise InvalidCalibration(f"{path.name} is not of version {VERSION} or before")
    read = _logistic if version == 2 else _curve
    queries = {kind: read(body["queries"][kind.value]) for kind in QueryKind}
    answers = body.get("answers")
    if answers is None:
        return queries, None
    return queries, AnswerCalibration(read(answers), float(answers["threshold"]))


def _logistic(values: Mapping[str, Any]) -> Curve:
    slope, intercept = float(values["slope"]), float(values["intercept"])
    # JSON as Python reads it may hold NaN and Infinity.
    if not 0 < slope < math.inf or not math.isfinite(intercept):
        raise ValueError("not a logistic curve that rises")
    return Curve.logistic(slope, intercept)


def _curve(values: Mapping[str, Any]) -> Curve:
    scores = tuple(map(float, values["scores"]))
    return Curve(scores, tuple(map(float, values["probabilities"])))
