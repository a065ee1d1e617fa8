"""Fitting the curve of a fake model, whose scores are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from index.calibration import read_calibration
from service.commands.calibrate import calibrate
from service.models import MODELS
from tests.fakes.model import FakeSummaryModel, fake_models

COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photographs of one colour each, named and captioned after it: all are held out, so few they are."""
    (tmp_path / "images").mkdir()
    lines = []
    for prefix, said in (("in_", "label"), ("fl_", "captions")):
        for colour in COLOURS:
            Image.new("RGB", (20, 20), colour).save(tmp_path / "images" / f"{prefix}{colour}.png")
            lines.append(
                {
                    "file": f"{prefix}{colour}.png",
                    said: colour if said == "label" else [f"{colour} all over"],
                }
            )
    (tmp_path / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setitem(MODELS, "fake", fake_models)
    monkeypatch.setenv("PRECIS_MODEL", "fake")
    return tmp_path


def test_matches_are_likelier_than_others(photos: Path) -> None:
    done = CliRunner().invoke(calibrate, ["--photos", str(photos), str(photos / "curve.json")])
    assert done.exit_code == 0, done.output
    curve = read_calibration(photos / "curve.json", FakeSummaryModel.fingerprint)
    model = FakeSummaryModel()
    (red,) = model.compress([Image.new("RGB", (20, 20), "red")]).embeddings
    right, wrong = (
        float(each @ red) for each in model.embed_text(["red all over", "blue all over"])
    )
    assert curve.probability(right) > 0.5 > curve.probability(wrong)


def test_a_folder_without_photographs_is_told(photos: Path) -> None:
    done = CliRunner().invoke(
        calibrate, ["--photos", str(photos / "images"), str(photos / "curve.json")]
    )
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert not (photos / "curve.json").exists()
