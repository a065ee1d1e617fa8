"""Fitting the curve of a fake model, whose scores are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compressor.evaluation.verdicts import Verdicts
from index.calibration import (
    Calibration,
    Curve,
    QueryKind,
    fit_curve,
    read_calibration,
)
from service.commands.calibrate import bins, query_curves
from tests.fakes.model import FakeSummaryModel
from tests.service.commands.conftest import COLOURS, Precis, json_line
from tests.service.conftest import flat


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A photograph of each colour, captioned after it."""
    (tmp_path / "images").mkdir()
    lines = []
    for colour in COLOURS:
        name = f"{colour}.png"
        flat(colour).save(tmp_path / "images" / name)
        captions = [f"{colour} all over"]
        lines.append({"file": name, "captions": captions, "queries": [colour]})
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "index.jsonl").write_text(text)
    return tmp_path


def probabilities(calibration: Calibration, *texts: str) -> list[float]:
    """That a red picture matches each text."""
    model = FakeSummaryModel()
    (red,) = model.compress([flat("red")]).embeddings
    scores = (model.embed_text(texts) @ red).tolist()
    return [
        calibration.curve_of(text).probability(score)
        for text, score in zip(texts, scores, strict=True)
    ]


def test_matches_are_likelier_than_others_and_than_nonsense(
    precis: Precis, photos: Path
) -> None:
    done = precis("calibrate", "--data", photos, photos / "curve.json")
    assert done.exit_code == 0, done.output
    calibration = read_calibration(photos / "curve.json", FakeSummaryModel.fingerprint)
    assert calibration.answers is None
    texts = ("red all over", "blue all over", "qwertz uiop", "asdfgh")
    right, *wrong = probabilities(calibration, *texts)
    assert right > 0.5 > max(wrong)


def test_questions_give_answers_a_curve_and_a_threshold(
    precis: Precis, questions: Path
) -> None:
    target, plot = questions / "curve.json", questions / "plot.png"
    done = precis("calibrate", "--data", questions, "--plot", plot, target)
    line = json_line(done)
    calibration = read_calibration(target, FakeSummaryModel.fingerprint)
    answers = calibration.answers
    assert answers is not None
    of_one_colour = answers.curve.probability(1.0)
    assert not answers.is_unsure(of_one_colour)
    assert answers.is_unsure(answers.curve.probability(0.55))
    assert line["answer_threshold"] == pytest.approx(of_one_colour, abs=1e-3)
    assert sum(each["count"] for each in line["bins"]["answers"]) == len(COLOURS) ** 2
    assert set(line["bins"]) == {"hits of a label", "hits of a phrase", "answers"}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_kind_of_few_matches_has_the_curve_of_all() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0, 1, 200)
    many = Verdicts(scores, random.random(200) < scores)
    few = Verdicts(np.array([0.9, 0.1]), np.array([True, False]))
    curves = query_curves({QueryKind.LABEL: many, QueryKind.PHRASE: few})
    assert curves[QueryKind.PHRASE] == curves[QueryKind.SENTENCE]
    assert curves[QueryKind.LABEL] == fit_curve(many.scores, many.right)
    assert curves[QueryKind.LABEL] != curves[QueryKind.PHRASE]


def test_bins_tell_mean_share_and_number() -> None:
    curve = Curve((0.0, 1.0), (0.0, 1.0))
    scores = np.array([0.11, 0.19, 0.95])
    verdicts = Verdicts(scores, np.array([False, True, True]))
    low, high = bins(curve, verdicts)
    assert (low.told, low.right, low.count) == (pytest.approx(0.15), 0.5, 2)
    assert (high.told, high.right, high.count) == (pytest.approx(0.95), 1.0, 1)


def test_data_of_some_kind_are_needed(precis: Precis, tmp_path: Path) -> None:
    done = precis("calibrate", tmp_path / "curve.json")
    assert done.exit_code == 2
    assert "--data" in done.output


def test_a_folder_without_photographs_is_an_error_of_one_line(
    precis: Precis, photos: Path
) -> None:
    done = precis("calibrate", "--data", photos / "images", photos / "curve.json")
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert not (photos / "curve.json").exists()


def test_a_target_that_cannot_be_written_is_an_error_of_one_line(
    precis: Precis, photos: Path
) -> None:
    done = precis("calibrate", "--data", photos, photos / "nowhere" / "curve.json")
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].endswith("No such file or directory")
    assert "Traceback" not in done.output
