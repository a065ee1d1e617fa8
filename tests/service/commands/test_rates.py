"""`precis rates`: fewer bytes cost answers, and both are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compressor.errors import DataInvalid
from compressor.training.datasets import Entry
from compressor.training.sample import QA
from index.codecs.scalar import SELF_CONTAINED, TokenCodec
from service.commands.rates import Rate, measure
from service.errors import InvalidOption
from tests.fakes.model import PALETTE, TOKEN_DIM, FakeGenerator, FakeSummaryModel
from tests.service.commands.conftest import Precis, json_line
from tests.service.conftest import flat

BLACK = list(PALETTE).index("black")
BLACK_BIT = b"\x01"
OTHER_BIT = b"\x00"


class Coarse:
    """A fake codec that keeps one bit an image: black, or what colour 0 is."""

    name = "coarse"

    def encode(self, tokens: np.ndarray) -> list[bytes]:
        colours = tokens[:, 0].argmax(axis=1)
        return [BLACK_BIT if colour == BLACK else OTHER_BIT for colour in colours]

    def decode(self, data: bytes, token_count: int, token_dim: int) -> np.ndarray:
        tokens = np.zeros((token_count, token_dim), dtype=np.float32)
        colour = BLACK if data == BLACK_BIT else 0
        tokens[:, colour] = 1
        return tokens

    def words(self, data: bytes, token_count: int) -> None:
        return None


def entry(colour: str) -> Entry:
    """A picture of one colour; the fake names what it sees in its tokens."""
    question = QA("What do you see?", f"I see {colour}.", "colour")
    image = flat(PALETTE[colour])
    return Entry(colour, (lambda: image,), questions=(question,))


def measured(codecs: list[TokenCodec], counts: tuple[int, ...]) -> list[Rate]:
    entries = [entry(colour) for colour in PALETTE]
    model = FakeSummaryModel()
    generator = FakeGenerator()
    return list(measure(model, generator, entries, codecs, counts))


def test_a_codec_that_keeps_less_answers_less() -> None:
    codecs = [SELF_CONTAINED["fp16"](), Coarse()]
    rates = measured(codecs, counts=(4, 2))
    assert [rate.codec for rate in rates] == ["fp16", "coarse"] * 2
    assert [rate.tokens for rate in rates] == [4, 4, 2, 2]
    fp16_bytes = 2 * TOKEN_DIM
    assert [rate.token_bytes for rate in rates] == [
        4 * fp16_bytes,
        1,
        2 * fp16_bytes,
        1,
    ]
    assert [rate.right for rate in rates] == [100.0, 33.3, 100.0, 33.3]
    other_bytes = {rate.all_bytes - rate.token_bytes for rate in rates}
    assert len(other_bytes) == 1
    assert min(other_bytes) > 32


def test_more_tokens_than_the_model_makes_are_refused() -> None:
    with pytest.raises(InvalidOption):
        measured([Coarse()], counts=(5,))


def test_images_that_nobody_asks_about_are_refused() -> None:
    silent = [replace(entry("red"), questions=())]
    with pytest.raises(DataInvalid, match="no image alone has questions"):
        next(measure(FakeSummaryModel(), FakeGenerator(), silent, [Coarse()], ()))


def test_from_a_folder_to_a_plot(precis: Precis, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    lines = []
    for colour, shade in PALETTE.items():
        name = f"{colour}.png"
        flat(shade).save(tmp_path / "images" / name)
        record = {
            "file": name,
            "captions": [f"a picture of {colour}"],
            "questions": [["What do you see?", f"I see {colour}."]],
        }
        lines.append(json.dumps(record))
    (tmp_path / "index.jsonl").write_text("\n".join(lines))
    budgets = ["--tokens", 2, "--tokens", 4]
    plot = tmp_path / "plot.png"
    line = json_line(precis("rates", "--data", tmp_path, *budgets, "--plot", plot))
    rates = line["rates"]
    assert (line["images"], line["questions"]) == (6, 6)
    assert set(line["recall"]) == {f"caption to image, R@{rank}" for rank in (1, 5, 10)}
    assert line["recall"]["caption to image, R@1"]["value"] == 100.0
    assert [rate["codec"] for rate in rates] == ["fp16", "sq8", "sq4"] * 2
    assert [rate["tokens"] for rate in rates] == [2] * 3 + [4] * 3
    assert {rate["right"] for rate in rates} == {100.0}
    with Image.open(plot) as drawn:
        assert drawn.format == "PNG"
    fewer = json_line(precis("rates", "--data", tmp_path, "--limit", 2))
    assert (fewer["images"], fewer["questions"]) == (2, 2)
    refused = precis("rates", "--data", tmp_path, "--codec", "pq4")
    assert refused.exit_code == 1
    assert "trained state" in refused.output
