"""From a score to the probability that an image matches a text: a curve fitted once for each model.

Knows nothing of models. Method: Platt, "Probabilistic Outputs for Support Vector Machines" (1999),
in the numerically safe form of Lin, Lin and Weng (2007). The probability is meant for pairs of the
kind it was fitted on: fitted on one match among n candidates, it speaks of a library where one of n
matches.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidCalibration
from index.files import write_whole

VERSION = 1
_MAX_STEPS = 100
_ENOUGH = 1e-10  # of the gradient, a pair


@dataclass(frozen=True)
class Calibration:
    """probability = 1 / (1 + exp(-(slope · score + intercept)))."""

    fingerprint: str  # of the model whose scores these are
    slope: float
    intercept: float

    def probability(self, score: float) -> float:
        """Of a match, from 0 to 1."""
        return float(_logistic(np.array([self.slope * score + self.intercept]))[0])

    def score(self, probability: float) -> float:
        """The score above which a match is at least so probable. Raises ValueError outside of (0, 1)."""
        if not 0 < probability < 1:
            raise ValueError(f"a probability to cut off at lies between 0 and 1, not {probability}")
        return (math.log(probability / (1 - probability)) - self.intercept) / self.slope


def fit_calibration(
    fingerprint: str, scores: NDArray[np.float64], matches: NDArray[np.bool_]
) -> Calibration:
    """The curve that makes the matches (n,) most likely, given their scores (n,).

    Raises InvalidCalibration unless there are matches and others, all scores are finite, and
    matches score higher.
    """
    scores, matches = np.asarray(scores, dtype=np.float64), np.asarray(matches, dtype=bool)
    if scores.ndim != 1 or scores.shape != matches.shape or not np.isfinite(scores).all():
        raise InvalidCalibration(
            f"scores {scores.shape} and matches {matches.shape} must be finite pairs (n,)"
        )
    positives, negatives = int(matches.sum()), int((~matches).sum())
    if not positives or not negatives:
        raise InvalidCalibration("a calibration needs pairs that match and pairs that do not")
    # Platt's targets: a little away from 0 and 1, so that pairs that separate perfectly have a
    # finite slope.
    target = np.where(matches, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, spread = scores.mean(), scores.std() or 1.0
    features = np.stack([(scores - centre) / spread, np.ones_like(scores)], axis=1)
    weights = np.array([0.0, math.log((positives + 1) / (negatives + 1))])
    loss = _loss(features @ weights, target)
    for _ in range(_MAX_STEPS):
        probability = _logistic(features @ weights)
        gradient = features.T @ (probability - target)
        if np.abs(gradient).max() < _ENOUGH * len(scores):
            break
        hessian = (
            features * (probability * (1 - probability))[:, None]
        ).T @ features + 1e-12 * np.eye(2)
        step, length = np.linalg.solve(hessian, gradient), 1.0
        while length > 1e-10 and _loss(features @ (weights - length * step), target) > loss:
            length /= 2
        weights = weights - length * step
        loss = _loss(features @ weights, target)
    slope = float(weights[0] / spread)
    if slope <= 0:
        raise InvalidCalibration(
            "matches do not score higher than the others: these scores say nothing"
        )
    return Calibration(fingerprint, slope, float(weights[1] - slope * centre))


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Writes a JSON file to ship with the model. Raises OSError."""
    text = json.dumps({"version": VERSION, **asdict(calibration)}, indent=1)
    write_whole(path, lambda take: take(text.encode()))


def read_calibration(path: Path, fingerprint: str) -> Calibration:
    """The calibration in a file, if it is that of the model `fingerprint`. Raises InvalidCalibration."""
    try:
        held = json.loads(path.read_bytes())
        if held.pop("version") != VERSION:
            raise InvalidCalibration(f"{path.name} is not of version {VERSION}")
        calibration = Calibration(
            str(held["fingerprint"]), float(held["slope"]), float(held["intercept"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidCalibration(f"{path.name} cannot be read as a calibration") from error
    if calibration.fingerprint != fingerprint:
        raise InvalidCalibration(f"{path.name} was fitted on the scores of another model")
    if not (0 < calibration.slope < math.inf and math.isfinite(calibration.intercept)):
        raise InvalidCalibration(f"{path.name} holds no usable curve")
    return calibration


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # Both branches of the power stay within range.
    power = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + power), power / (1 + power))


def _loss(x: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    return float((np.logaddexp(0, x) - target * x).sum())
