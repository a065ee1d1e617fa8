"""`precis rates`: fewer bytes cost answers, and both are told."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index.codecs.scalar import SELF_CONTAINED, TokenCodec
from service.commands.rates import Rate, measure
from service.errors import InvalidOption
from service.models import HeldOutQuestion
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


def names(colour: str, answer: str) -> bool:
    return colour in answer


def question(colour: str) -> HeldOutQuestion:
    judge = partial(names, colour)
    return HeldOutQuestion(flat(PALETTE[colour]), "which colour?", judge)


def measured(codecs: list[TokenCodec], counts: tuple[int, ...]) -> list[Rate]:
    questions = [question(colour) for colour in PALETTE]
    model = FakeSummaryModel()
    generator = FakeGenerator()
    return list(measure(model, generator, questions, {}, codecs, counts))


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


def test_from_photographs_to_a_plot(precis: Precis, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    lines = []
    for colour, shade in PALETTE.items():
        name = f"in_{colour}.png"
        flat(shade).save(tmp_path / "images" / name)
        lines.append(json.dumps({"file": name, "label": colour}))
    (tmp_path / "index.jsonl").write_text("\n".join(lines))
    budgets = ["--tokens", 2, "--tokens", 4]
    result = precis(
        "rates", "--photos", tmp_path, *budgets, "--plot", tmp_path / "plot.png"
    )
    line = json_line(result)
    rates = line["rates"]
    assert line["texts"] == {"labels, text to image": 6}  # no photograph has a caption
    assert [rate["codec"] for rate in rates] == ["fp16", "sq8", "sq4"] * 2
    assert [rate["tokens"] for rate in rates] == [2] * 3 + [4] * 3
    for rate in rates:
        assert rate["right"] == 100.0
        assert rate["recall"]["labels, text to image, R@1"] == 100.0
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.format == "PNG"
    refused = precis("rates", "--photos", tmp_path, "--codec", "pq4")
    assert refused.exit_code == 1
    assert "trained state" in refused.output
