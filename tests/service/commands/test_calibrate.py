"""Fitting the curve of a fake model, whose scores are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from index.calibration import read_calibration
from tests.fakes.model import FakeSummaryModel
from tests.service.commands.conftest import Precis
from tests.service.conftest import flat

COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs of one colour each, named and captioned after it; so few are all held out."""
    (tmp_path / "images").mkdir()
    lines = []
    for colour in COLOURS:
        for name in (f"in_{colour}.png", f"fl_{colour}.png"):
            flat(colour).save(tmp_path / "images" / name)
        lines.append({"file": f"in_{colour}.png", "label": colour})
        lines.append({"file": f"fl_{colour}.png", "captions": [f"{colour} all over"]})
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "index.jsonl").write_text(text)
    return tmp_path


def test_matches_are_likelier_than_others(precis: Precis, photos: Path) -> None:
    done = precis("calibrate", "--photos", photos, photos / "curve.json")
    assert done.exit_code == 0, done.output
    curve = read_calibration(photos / "curve.json", FakeSummaryModel.fingerprint)
    model = FakeSummaryModel()
    (red,) = model.compress([flat("red")]).embeddings
    scores = model.embed_text(["red all over", "blue all over"]) @ red
    right, wrong = map(curve.probability, scores.tolist())
    assert right > 0.5 > wrong


def test_a_folder_without_photographs_is_an_error_of_one_line(
    precis: Precis, photos: Path
) -> None:
    done = precis("calibrate", "--photos", photos / "images", photos / "curve.json")
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert not (photos / "curve.json").exists()


def test_a_target_that_cannot_be_written_is_an_error_of_one_line(
    precis: Precis, photos: Path
) -> None:
    done = precis("calibrate", "--photos", photos, photos / "nowhere" / "curve.json")
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].endswith("No such file or directory")
    assert "Traceback" not in done.output
