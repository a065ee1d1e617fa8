"""Calibration: from a model's own scores to probabilities that mean what they say.

Two scores have a curve: the cosine of an image and a search text, and the mean probability of an
answer's tokens. Method: Platt, "Probabilistic Outputs for Support Vector Machines" (1999), in the
numerically safe form of Lin, Lin and Weng (2007). The probability holds for scores of the kind the
curve was fitted on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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
VERSION = 2  # version 1 had one curve for all search texts, and none for answers
RIGHT_ABOVE_THRESHOLD = 0.8  # share of the answers that the service calls sure
_MAX_LABEL_WORDS = 3
_MAX_PHRASE_WORDS = 7
_MAX_ITERATIONS = 100
_MIN_STEP = 1e-10
_GRADIENT_TOLERANCE = 1e-10  # per pair
_RIDGE = 1e-12


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
    """probability = 1 / (1 + exp(-(slope · score + intercept)))."""

    slope: float
    intercept: float

    def probability(self, score: float) -> float:
        """The probability at a score, from 0 to 1."""
        logit = self.slope * score + self.intercept
        return float(_sigmoid(np.array([logit]))[0])

    def score(self, probability: float) -> float:
        """The score at which the curve reaches this probability. Raises ValueError."""
        if not 0 < probability < 1:
            raise ValueError(
                f"a probability to cut off at lies between 0 and 1, not {probability}"
            )
        logit = math.log(probability / (1 - probability))
        return (logit - self.intercept) / self.slope


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
    # Platt's targets, a little away from 0 and 1: pairs that a threshold separates perfectly would
    # otherwise drive the slope to infinity.
    target_of_match = (positives + 1) / (positives + 2)
    target_of_other = 1 / (negatives + 2)
    targets = np.where(matches, target_of_match, target_of_other)
    # Standardised: cosines differ by hundredths, and Newton's steps on them would be
    # ill-conditioned.
    mean = scores.mean()
    std = scores.std() or 1.0
    standardised = (scores - mean) / std
    features = np.stack([standardised, np.ones_like(scores)], axis=1)
    prior = math.log((positives + 1) / (negatives + 1))
    start = np.array([0.0, prior])
    weights = _minimise(features, targets, start)
    slope = float(weights[0] / std)
    if slope <= 0:
        raise InvalidCalibration(
            "matches score no higher than the others: these scores predict nothing"
        )
    intercept = float(weights[1] - slope * mean)
    return Curve(slope, intercept)


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


def _minimise(features: Doubles, targets: Doubles, weights: Doubles) -> Doubles:
    """The weights (2,) of least cross-entropy, by Newton's method with a line search."""
    loss = _cross_entropy(features @ weights, targets)
    tolerance = _GRADIENT_TOLERANCE * len(targets)
    for _ in range(_MAX_ITERATIONS):
        probabilities = _sigmoid(features @ weights)
        residuals = probabilities - targets
        gradient = features.T @ residuals
        if np.abs(gradient).max() < tolerance:
            break
        variances = probabilities * (1 - probabilities)
        hessian = (features * variances[:, np.newaxis]).T @ features
        # The ridge keeps the matrix invertible when every probability has saturated.
        ridge = _RIDGE * np.eye(2)
        step = np.linalg.solve(hessian + ridge, gradient)
        length = 1.0
        # A whole step of Newton's may overshoot far from the minimum; halving makes each descend.
        while _cross_entropy(features @ (weights - length * step), targets) > loss:
            length /= 2
            if length <= _MIN_STEP:
                break
        weights = weights - length * step
        loss = _cross_entropy(features @ weights, targets)
    return weights


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
    # JSON as Python reads it may hold NaN and Infinity.
    usable = [0 < curve.slope < math.inf for curve in curves]
    usable += [math.isfinite(curve.intercept) for curve in curves]
    if answers is not None:
        usable.append(0 <= answers.threshold <= 1)
    if not all(usable):
        raise InvalidCalibration(f"{path.name} holds no usable curve")
    return Calibration(owner, queries, answers)


def _curves(
    body: Mapping[str, Any], path: Path
) -> tuple[dict[QueryKind, Curve], AnswerCalibration | None]:
    if body["version"] == 1:
        return dict.fromkeys(QueryKind, _curve(body)), None
    if body["version"] != VERSION:
        raise InvalidCalibration(f"{path.name} is not of version {VERSION} or before")
    queries = {kind: _curve(body["queries"][kind.value]) for kind in QueryKind}
    answers = body.get("answers")
    if answers is None:
        return queries, None
    return queries, AnswerCalibration(_curve(answers), float(answers["threshold"]))


def _curve(values: Mapping[str, Any]) -> Curve:
    return Curve(slope=float(values["slope"]), intercept=float(values["intercept"]))


def _sigmoid(logits: Doubles) -> Doubles:
    # Of a negative power in both branches, which cannot overflow.
    power = np.exp(-np.abs(logits))
    numerator = np.where(logits >= 0, 1, power)
    return np.asarray(numerator / (1 + power))


def _cross_entropy(logits: Doubles, targets: Doubles) -> float:
    losses = np.logaddexp(0, logits) - targets * logits
    return float(losses.sum())
