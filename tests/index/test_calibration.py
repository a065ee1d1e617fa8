"""Calibration: the curve is the true one, and what cannot be calibrated is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.calibration import (
    AnswerCalibration,
    Calibration,
    Curve,
    QueryKind,
    fit_answers,
    fit_curve,
    query_kind,
    read_calibration,
    write_calibration,
)
from index.errors import InvalidCalibration
from tests.index.samples import FINGERPRINT, OTHER_FINGERPRINT


def test_finds_the_curve_the_pairs_were_drawn_from() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(-0.2, 0.8, size=20_000)
    truth = Curve(slope=12.0, intercept=-4.0)
    probabilities = [truth.probability(score) for score in scores]
    matches = random.random(len(scores)) < probabilities
    fitted = fit_curve(scores, matches)
    assert fitted.slope == pytest.approx(12, rel=0.1)
    assert fitted.intercept == pytest.approx(-4, rel=0.1)
    for low in (0.1, 0.4, 0.7):
        lowest = fitted.score(low)
        highest = fitted.score(low + 0.2)
        share = matches[(scores > lowest) & (scores < highest)].mean()
        assert share == pytest.approx(low + 0.1, abs=0.03)


def test_pairs_that_separate_perfectly_have_a_finite_curve() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    fitted = fit_curve(scores, scores > 0.5)
    assert 0 < fitted.slope < np.inf
    assert fitted.probability(0.1) < 0.5 < fitted.probability(0.9)


@given(st.floats(-1, 1), st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_a_probability_rises_with_the_score_and_stays_within_its_range(
    score: float, slope: float, shift: float
) -> None:
    curve = Curve(slope, shift)
    lower = curve.probability(score - 0.1)
    higher = curve.probability(score)
    assert 0 <= lower <= higher <= 1


@given(st.floats(0.001, 0.999))
def test_a_cut_off_score_is_where_the_probability_is_reached(
    probability: float,
) -> None:
    curve = Curve(8.0, -3.0)
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
        fit_curve(np.array(scores), is_match)


def test_the_threshold_of_answers_is_the_lowest_with_four_of_five_right() -> None:
    probabilities = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    right = np.array([True, True, True, True, False, False, True])
    answers = fit_answers(probabilities, right)
    assert not answers.is_unsure(answers.curve.probability(0.5))
    assert answers.is_unsure(answers.curve.probability(0.4))


def test_answers_of_one_probability_are_on_one_side_of_the_threshold() -> None:
    probabilities = np.array([0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.2])
    right = np.array([True, True, True, True, False, False, False])
    answers = fit_answers(probabilities, right)
    assert answers.is_unsure(answers.curve.probability(0.5))
    assert not answers.is_unsure(answers.curve.probability(0.9))


def test_where_too_few_answers_are_right_all_are_unsure() -> None:
    probabilities = np.array([0.9, 0.9, 0.4, 0.3])
    right = np.array([True, False, False, False])
    answers = fit_answers(probabilities, right)
    assert answers.is_unsure(answers.curve.probability(1.0))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("zebra", QueryKind.LABEL),
        ("great white shark", QueryKind.LABEL),
        ("dog in the snow", QueryKind.PHRASE),
        ("a photo of a great white shark", QueryKind.PHRASE),
        ("two dogs run over the grass at dusk", QueryKind.SENTENCE),
    ],
)
def test_the_number_of_words_says_the_kind(text: str, kind: QueryKind) -> None:
    assert query_kind(text) == kind


CURVES = {
    QueryKind.LABEL: Curve(12.5, -4.25),
    QueryKind.PHRASE: Curve(13.5, -5.25),
    QueryKind.SENTENCE: Curve(14.5, -6.25),
}
ANSWERS = AnswerCalibration(Curve(5.5, -2.5), threshold=0.625)


@pytest.mark.parametrize("answers", [None, ANSWERS])
def test_a_file_keeps_its_curves(
    tmp_path: Path, answers: AnswerCalibration | None
) -> None:
    path = tmp_path / "calibration.json"
    calibration = Calibration(FINGERPRINT, CURVES, answers)
    write_calibration(calibration, path)
    assert read_calibration(path, FINGERPRINT) == calibration
    assert calibration.curve_of("zebra") == CURVES[QueryKind.LABEL]


def test_a_file_of_version_1_has_one_curve_for_all_texts(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(
        f'{{"version": 1, "fingerprint": "{FINGERPRINT}",'
        ' "slope": 12.5, "intercept": -4.25}'
    )
    calibration = read_calibration(path, FINGERPRINT)
    assert set(calibration.queries.values()) == {Curve(12.5, -4.25)}
    assert set(calibration.queries) == set(QueryKind)
    assert calibration.answers is None


def test_a_file_belongs_to_its_model(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(Calibration(FINGERPRINT, CURVES, ANSWERS), path)
    with pytest.raises(InvalidCalibration, match="another model"):
        read_calibration(path, OTHER_FINGERPRINT)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"version": 2', '"version": 3'),
        ("12.5", "NaN"),
        ("13.5", "-1"),
        ("-6.25", "Infinity"),
        ("5.5", "0"),
        ("0.625", "1.5"),
        ("0.625", '"high"'),
        ('"phrase"', '"sonnet"'),
        ('"queries"', '"curves"'),
    ],
)
def test_a_file_that_holds_no_curves_is_refused(
    tmp_path: Path, good: str, bad: str
) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(Calibration(FINGERPRINT, CURVES, ANSWERS), path)
    text = path.read_text()
    assert good in text
    for wrong in (text.replace(good, bad), "", "[]", "{}"):
        path.write_text(wrong)
        with pytest.raises(InvalidCalibration):
            read_calibration(path, FINGERPRINT)
