"""Calibration: the curve is the true one, and what cannot be calibrated is refused."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize("slope", [3.0, 12.0, 40.0])
def test_finds_the_curve_the_pairs_were_drawn_from(slope: float) -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(-0.2, 0.8, size=20_000)
    truth = Curve.logistic(slope, intercept=-slope / 3)
    probabilities = [truth.probability(score) for score in scores]
    matches = random.random(len(scores)) < probabilities
    fitted = fit_curve(scores, matches)
    for score, probability in zip(scores, probabilities, strict=True):
        assert fitted.probability(score) == pytest.approx(probability, abs=0.06)


def test_finds_a_curve_of_no_form() -> None:
    """Half of the best hits are right, as where a text says what no picture does."""
    random = np.random.default_rng(0)
    scores = random.uniform(0, 1, size=20_000)
    truth = np.where(scores < 0.3, 0.02, np.where(scores < 0.6, 0.4, 0.5))
    fitted = fit_curve(scores, random.random(len(scores)) < truth)
    for score, probability in ((0.1, 0.02), (0.45, 0.4), (0.8, 0.5), (1.0, 0.5)):
        assert fitted.probability(score) == pytest.approx(probability, abs=0.07)


# As far apart as cosines of embeddings in eight bits.
SCORES = st.integers(-1000, 1000).map(lambda number: number / 1000)
SAMPLES = st.lists(st.tuples(SCORES, st.booleans()), min_size=4, max_size=300)


@given(SAMPLES)
def test_a_fitted_curve_rises_and_tells_the_share_that_matches(
    pairs: list[tuple[float, bool]],
) -> None:
    scores, matches = (np.array(values) for values in zip(*pairs, strict=True))
    try:
        fitted = fit_curve(scores, matches)
    except InvalidCalibration:
        return
    assert fitted.is_usable
    assert 0 < fitted.probabilities[0] <= fitted.probabilities[-1] < 1
    shuffled = np.random.default_rng(0).permutation(len(scores))
    assert fit_curve(scores[shuffled], matches[shuffled]) == fitted


def test_pairs_that_separate_perfectly_are_not_told_as_certain() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    fitted = fit_curve(scores, scores > 0.5)
    assert 0 < fitted.probability(0.1) < 0.5 < fitted.probability(0.9) < 1


def test_a_few_lucky_hits_are_no_point_of_the_curve() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0, 1, size=2_000)
    matches = random.random(len(scores)) < 0.5 * scores
    matches[np.argsort(scores)[-5:]] = True
    assert fit_curve(scores, matches).probability(1.0) < 0.65


@given(st.floats(-1, 1), st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_a_probability_rises_with_the_score_and_stays_within_its_range(
    score: float, slope: float, shift: float
) -> None:
    curve = Curve.logistic(slope, shift)
    lower = curve.probability(score - 0.1)
    higher = curve.probability(score)
    assert 0 <= lower <= higher <= 1


@given(st.floats(-6, 6), st.floats(0.1, 100), st.floats(-10, 10))
def test_a_logistic_curve_is_kept_to_a_thousandth(
    logit: float, slope: float, intercept: float
) -> None:
    curve = Curve.logistic(slope, intercept)
    exact = 1 / (1 + np.exp(-logit))
    score = (logit - intercept) / slope
    assert curve.probability(score) == pytest.approx(exact, abs=1e-3)


def test_a_cut_off_score_is_the_lowest_where_the_probability_is_reached() -> None:
    curve = Curve((0.2, 0.4, 0.8), (0.1, 0.5, 0.7))
    assert curve.score(0.3) == pytest.approx(0.3)
    assert curve.score(0.7) == pytest.approx(0.8)
    assert curve.score(0.05) == pytest.approx(0.2)
    assert curve.score(0.71) is None


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
    QueryKind.LABEL: Curve((0.125, 0.25, 0.375), (0.03125, 0.5, 0.75)),
    QueryKind.PHRASE: Curve((-0.25, 0.5), (0.0625, 0.875)),
    QueryKind.SENTENCE: Curve((0.4375, 0.5625), (0.0, 1.0)),
}
ANSWERS = AnswerCalibration(Curve((0.3125, 0.8125), (0.1875, 0.9375)), threshold=0.625)


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
    assert set(calibration.queries.values()) == {Curve.logistic(12.5, -4.25)}
    assert set(calibration.queries) == set(QueryKind)
    assert calibration.answers is None


def test_a_file_of_version_2_has_logistic_curves(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    logistic = {"slope": 12.5, "intercept": -4.25}
    body = {
        "version": 2,
        "fingerprint": FINGERPRINT,
        "queries": {kind.value: logistic for kind in QueryKind},
        "answers": {**logistic, "threshold": 0.5},
    }
    path.write_text(json.dumps(body))
    curve = Curve.logistic(12.5, -4.25)
    expected = Calibration(
        FINGERPRINT, dict.fromkeys(QueryKind, curve), AnswerCalibration(curve, 0.5)
    )
    assert read_calibration(path, FINGERPRINT) == expected
    for bad in (0, -1, float("nan"), float("inf")):
        logistic["slope"] = bad
        path.write_text(json.dumps(body))
        with pytest.raises(InvalidCalibration):
            read_calibration(path, FINGERPRINT)


def test_a_file_belongs_to_its_model(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(Calibration(FINGERPRINT, CURVES, ANSWERS), path)
    with pytest.raises(InvalidCalibration, match="another model"):
        read_calibration(path, OTHER_FINGERPRINT)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"version": 3', '"version": 4'),
        ('"version": 3', '"version": 2'),
        ("0.125", "NaN"),
        ("0.125", "0.25"),
        ("0.125", "[0.125]"),
        ("0.03125", "0.625"),
        ("0.75", "NaN"),
        ("0.5625", "Infinity"),
        ("0.0625", "-0.0625"),
        ("0.9375", "1.9375"),
        ("0.9375", "0.9375, 1"),
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
