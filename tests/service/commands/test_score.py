"""`precis score` from files to figures, over a fake that sees colours, through a real codec."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from index.codecs.scalar import SELF_CONTAINED
from service.model_wrappers import StoredSummaryModel
from tests.fakes.model import PALETTE, FakeSummaryModel
from tests.service.commands.conftest import Precis, json_line
from tests.service.conftest import flat

Score = Callable[..., Result]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for colour, shade in PALETTE.items():
        flat(shade).save(folder / f"{colour}.png")
    return folder


@pytest.fixture
def run(precis: Precis, images: Path) -> Score:
    return lambda *arguments: precis("score", *arguments, "--images", images)


def test_karpathy_with_a_plot(run: Score, tmp_path: Path) -> None:
    entries = []
    for colour in PALETTE:
        sentences = [{"raw": f"a {colour} wall"}]
        entries.append(
            {"filename": f"{colour}.png", "split": "test", "sentences": sentences}
        )
    (tmp_path / "data.json").write_text(json.dumps({"images": entries}))
    result = run("--plot", tmp_path / "plot.png", "karpathy", tmp_path / "data.json")
    line = json_line(result)
    assert line["percent"]["text to image, R@1"] == 100.0
    assert line["used"] == len(PALETTE)
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.format == "PNG"


def test_sugarcrepe(run: Score, tmp_path: Path) -> None:
    crepe = {"0": {"filename": "red.png", "caption": "red", "negative_caption": "blue"}}
    (tmp_path / "swap_att.json").write_text(json.dumps(crepe))
    line = json_line(run("sugarcrepe", tmp_path))
    assert line["percent"] == {"swap_att": 100.0, "mean": 100.0}


def test_winoground(run: Score, tmp_path: Path) -> None:
    crossed = {
        "image_0": "red",
        "image_1": "blue",
        "caption_0": "red",
        "caption_1": "blue",
    }
    (tmp_path / "examples.jsonl").write_text(json.dumps(crossed))
    line = json_line(run("winoground", tmp_path / "examples.jsonl"))
    assert line["percent"]["group"] == 100.0


def test_vqa(run: Score, tmp_path: Path) -> None:
    question = {"question_id": 1, "image_id": "red", "question": "which colour?"}
    given = [{"answer": "I see red"}] * 2 + [{"answer": "red"}] * 8
    annotation = {"question_id": 1, "answers": given}
    questions, annotations = tmp_path / "q.json", tmp_path / "a.json"
    questions.write_text(json.dumps({"questions": [question]}))
    annotations.write_text(json.dumps({"annotations": [annotation]}))
    target = tmp_path / "answers.jsonl"
    result = run(
        "vqa", questions, annotations, "--names", "{}.png", "--answers", target
    )
    assert json_line(result)["percent"] == {"vqa": 60.0}
    assert json.loads(target.read_text())["answer"] == "I see red."


def test_answers(run: Score, tmp_path: Path) -> None:
    lines = []
    for colour in ("red", "blue"):
        line = {
            "image": f"{colour}.png",
            "question": "which colour?",
            "answer": "I see red",
        }
        lines.append(json.dumps(line))
    file = tmp_path / "lines.jsonl"
    file.write_text("\n".join(lines))
    assert json_line(run("answers", file))["percent"] == {"exact": 50.0}
    first = json_line(run("--limit", 1, "answers", file))
    assert first["percent"] == {"exact": 100.0}


def test_what_cannot_be_used_is_one_line(run: Score, tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text("{}\n")
    result = run("answers", tmp_path / "lines.jsonl")
    assert result.exit_code == 1
    assert "1 with no question" in result.output
    line = {"image": "red.png", "question": "which colour?", "answer": "red"}
    (tmp_path / "lines.jsonl").write_text(json.dumps(line))
    result = run("--codec", "pq4", "answers", tmp_path / "lines.jsonl")
    assert result.exit_code == 1
    assert "trained state" in result.output


def test_what_is_scored_has_been_through_the_codec() -> None:
    pictures = [flat("red"), flat("blue")]
    model = FakeSummaryModel()
    codec = SELF_CONTAINED["sq4"]()
    stored = StoredSummaryModel(model, codec)
    plain = model.compress(pictures)
    kept = stored.compress(pictures)
    encoded = codec.encode(plain.tokens)
    expected = [codec.decode(data, *model.tokens_shape) for data in encoded]
    assert np.array_equal(kept.tokens, np.stack(expected))
    differences = np.abs(kept.embeddings - plain.embeddings)
    assert 0 < differences.max() < 0.01
    assert stored.token_bytes == 4 * (8 + 16 / 2)
