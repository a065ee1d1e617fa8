"""Calibration: the curve is the true one, and what cannot be calibrated is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.calibration import (
    Calibration,
    fit_calibration,
    read_calibration,
    write_calibration,
)
from index.errors import InvalidCalibration
from tests.index.samples import FINGERPRINT, OTHER_FINGERPRINT


def test_finds_the_curve_the_pairs_were_drawn_from() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(-0.2, 0.8, size=20_000)
    truth = Calibration(FINGERPRINT, slope=12.0, intercept=-4.0)
    probabilities = [truth.probability(score) for score in scores]
    matches = random.random(len(scores)) < probabilities
    fitted = fit_calibration(FINGERPRINT, scores, matches)
    assert fitted.slope == pytest.approx(12, rel=0.1)
    assert fitted.intercept == pytest.approx(-4, rel=0.1)
    for low in (0.1, 0.4, 0.7):
        lowest = fitted.score(low)
        highest = fitted.score(low + 0.2)
        share = matches[(scores > lowest) & (scores < highest)].mean()
        assert share == pytest.approx(low + 0.1, abs=0.03)


def test_pairs_that_separate_perfectly_have_a_finite_curve() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    fitted = fit_calibration(FINGERPRINT, scores, scores > 0.5)
    assert 0 < fitted.slope < np.inf
    assert fitted.probability(0.1) < 0.5 < fitted.probability(0.9)


@given(st.floats(-1, 1), st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_a_probability_rises_with_the_score_and_stays_within_its_range(
    score: float, slope: float, shift: float
) -> None:
    curve = Calibration(FINGERPRINT, slope, shift)
    lower = curve.probability(score - 0.1)
    higher = curve.probability(score)
    assert 0 <= lower <= higher <= 1


@given(st.floats(0.001, 0.999))
def test_a_cut_off_score_is_where_the_probability_is_reached(
    probability: float,
) -> None:
    curve = Calibration(FINGERPRINT, 8.0, -3.0)
    score = curve.score(probability)
    assert curve.probability(score) == pytest.approx(probability)
    for outside in (0.0, 1.0, -1.0, 2.0):
        with pytest.raises(ValueError, match="between"):
            curve.score(outside)


@pytest.mark.parametrize(
    ("scores", "matches"),
    [
        ([], []),
        ([0.1, 0.2], [True, True]),
        ([0.1, 0.2], [False, False]),
        ([0.1, np.nan], [True, False]),
        ([0.1], [True, False]),
        ([0.1, 0.9], [True, False]),
        ([0.5, 0.5], [True, False]),
    ],
)
def test_what_says_nothing_is_refused(scores: list[float], matches: list[bool]) -> None:
    is_match = np.array(matches, dtype=bool)
    with pytest.raises(InvalidCalibration):
        fit_calibration(FINGERPRINT, np.array(scores), is_match)


def test_a_file_belongs_to_its_model(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    curve = Calibration(FINGERPRINT, 12.5, -4.25)
    write_calibration(curve, path)
    assert read_calibration(path, FINGERPRINT) == curve
    with pytest.raises(InvalidCalibration):
        read_calibration(path, OTHER_FINGERPRINT)
    text = path.read_text()
    other_version = text.replace("1,", "2,", 1)
    no_number = text.replace("12.5", "NaN")
    for wrong in ("", "[]", "{}", other_version, no_number):
        path.write_text(wrong)
        with pytest.raises(InvalidCalibration):
            read_calibration(path, FINGERPRINT)
