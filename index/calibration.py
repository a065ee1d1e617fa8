"""Calibration: from a cosine score to the probability that an image matches a text.

Method: Platt, "Probabilistic Outputs for Support Vector Machines" (1999), in the numerically safe
form of Lin, Lin and Weng (2007). The probability holds for pairs of the kind the curve was fitted
on: fitted on one match among n candidates, it speaks of a library where one of n matches.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidCalibration
from index.files import write_bytes

Doubles = NDArray[np.float64]
VERSION = 1
_MAX_ITERATIONS = 100
_MIN_STEP = 1e-10
_GRADIENT_TOLERANCE = 1e-10  # per pair
_RIDGE = 1e-12


@dataclass(frozen=True)
class Calibration:
    """probability = 1 / (1 + exp(-(slope · score + intercept)))."""

    fingerprint: str  # of the model that made the scores
    slope: float
    intercept: float

    def probability(self, score: float) -> float:
        """The probability of a match, from 0 to 1."""
        logit = self.slope * score + self.intercept
        return float(_sigmoid(np.array([logit]))[0])

    def score(self, probability: float) -> float:
        """The score above which a match is at least so probable. Raises ValueError."""
        if not 0 < probability < 1:
            raise ValueError(
                f"a probability to cut off at lies between 0 and 1, not {probability}"
            )
        logit = math.log(probability / (1 - probability))
        return (logit - self.intercept) / self.slope


def fit_calibration(
    fingerprint: str, scores: Doubles, matches: NDArray[np.bool_]
) -> Calibration:
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
    return Calibration(fingerprint, slope, intercept)


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
    body = {"version": VERSION, **asdict(calibration)}
    text = json.dumps(body, indent=1)
    write_bytes(path, text.encode())


def read_calibration(path: Path, fingerprint: str) -> Calibration:
    """The calibration in a file. Raises InvalidCalibration, also if it is of another model."""
    try:
        body = json.loads(path.read_bytes())
        if body.pop("version") != VERSION:
            raise InvalidCalibration(f"{path.name} is not of version {VERSION}")
        calibration = Calibration(
            fingerprint=str(body["fingerprint"]),
            slope=float(body["slope"]),
            intercept=float(body["intercept"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidCalibration(
            f"{path.name} cannot be read as a calibration"
        ) from error
    if calibration.fingerprint != fingerprint:
        raise InvalidCalibration(
            f"{path.name} was fitted on the scores of another model"
        )
    # JSON as Python reads it may hold NaN and Infinity.
    is_curve = 0 < calibration.slope < math.inf and math.isfinite(calibration.intercept)
    if not is_curve:
        raise InvalidCalibration(f"{path.name} holds no usable curve")
    return calibration


def _sigmoid(logits: Doubles) -> Doubles:
    # Of a negative power in both branches, which cannot overflow.
    power = np.exp(-np.abs(logits))
    numerator = np.where(logits >= 0, 1, power)
    return np.asarray(numerator / (1 + power))


def _cross_entropy(logits: Doubles, targets: Doubles) -> float:
    losses = np.logaddexp(0, logits) - targets * logits
    return float(losses.sum())
