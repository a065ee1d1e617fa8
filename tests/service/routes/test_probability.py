"""From scores to probabilities, where the model has a calibration."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from index.calibration import Calibration, Curve, QueryKind, write_calibration
from tests.fakes.model import FakeSummaryModel
from tests.service.conftest import Start, add, assert_problem, ids, search, search_image

EVEN_AT_HALF = dict.fromkeys(QueryKind, Curve.logistic(slope=10.0, intercept=-5.0))


@pytest.fixture
def calibrated(start: Start, tmp_path: Path) -> TestClient:
    """A service to which a score of 0.5 means an even chance."""
    path = tmp_path / "calibration.json"
    write_calibration(Calibration(FakeSummaryModel.fingerprint, EVEN_AT_HALF), path)
    return start(calibration=path)


def test_hits_have_a_probability_that_users_can_cut_off_at(
    calibrated: TestClient,
) -> None:
    red, _ = add(calibrated, "red", "blue")
    sure, unlikely = search(calibrated, "red")
    assert sure["probability"] > 0.98
    assert unlikely["probability"] < 0.02
    cut = search(calibrated, "red", min_probability=0.5)
    assert ids(cut) == [red]
    assert search(calibrated, "green", min_probability=0.5) == []


def test_a_search_by_picture_has_none(calibrated: TestClient) -> None:
    add(calibrated, "red")
    (hit,) = search_image(calibrated, "blue")
    assert hit["probability"] is None


def test_without_a_calibration_there_are_none(client: TestClient) -> None:
    add(client, "red")
    (hit,) = search(client, "red")
    assert hit["probability"] is None
    response = client.get("/search", params={"q": "red", "min_probability": 0.5})
    assert_problem(response, 422, "invalid-input")


@pytest.mark.parametrize("value", ["-0.1", "1.1", "NaN", "inf", "x"])
def test_only_probabilities_are_taken(calibrated: TestClient, value: str) -> None:
    response = calibrated.get("/search", params={"q": "red", "min_probability": value})
    assert_problem(response, 422, "invalid-input")


# A replica that cannot load its model gets no requests.
@pytest.mark.deployments("single")
def test_the_calibration_of_another_model_is_refused(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(Calibration("f" * 64, EVEN_AT_HALF), path)
    client = start(calibration=path)
    response = client.get("/readyz")
    assert_problem(response, 503, "not-ready")
