"""`precis rates`: fewer bytes cost answers, and both are told."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index.codecs.scalar import SELF_CONTAINED
from service.commands.rates import measure
from service.errors import InvalidOption
from service.models import HeldOutQuestion
from tests.fakes.model import PALETTE, TOKEN_DIM, FakeGenerator, FakeSummaryModel
from tests.service.commands.conftest import Precis


class Coarse:
    """A fake codec that keeps one bit an image: black, or what colour 0 is."""

    name = "coarse"

    def encode(self, tokens: np.ndarray) -> list[bytes]:
        return [bytes([int(image[0].argmax() == 4)]) for image in tokens]

    def decode(self, data: bytes, token_count: int, token_dim: int) -> np.ndarray:
        tokens = np.zeros((token_count, token_dim), dtype=np.float32)
        tokens[:, 4 if data[0] else 0] = 1
        return tokens

    def words(self, data: bytes, token_count: int) -> None:
        return None


def names(colour: str, answer: str) -> bool:
    return colour in answer


def questions() -> list[HeldOutQuestion]:
    return [
        HeldOutQuestion(Image.new("RGB", (8, 8), shade), "which colour?", partial(names, colour))
        for colour, shade in PALETTE.items()
    ]


def test_a_codec_that_keeps_less_answers_less() -> None:
    codecs = [SELF_CONTAINED["fp16"](), Coarse()]
    found = list(measure(FakeSummaryModel(), FakeGenerator(), questions(), {}, codecs, (4, 2)))
    assert [(rate.codec, rate.tokens, rate.token_bytes) for rate in found] == [
        ("fp16", 4, 4 * 2 * TOKEN_DIM),
        ("coarse", 4, 1),
        ("fp16", 2, 2 * 2 * TOKEN_DIM),
        ("coarse", 2, 1),
    ]
    assert [rate.right for rate in found] == [100.0, 33.3, 100.0, 33.3]
    assert (
        found[0].all_bytes - found[0].token_bytes == found[1].all_bytes - found[1].token_bytes > 32
    )


def test_more_tokens_than_the_model_makes_are_refused() -> None:
    with pytest.raises(InvalidOption):
        list(measure(FakeSummaryModel(), FakeGenerator(), questions(), {}, [Coarse()], (5,)))


def test_from_photographs_to_a_plot(precis: Precis, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    lines = []
    for colour, shade in PALETTE.items():
        Image.new("RGB", (8, 8), shade).save(tmp_path / "images" / f"in_{colour}.png")
        lines.append(json.dumps({"file": f"in_{colour}.png", "label": colour}))
    (tmp_path / "index.jsonl").write_text("\n".join(lines))
    budgets = ["--tokens", 2, "--tokens", 4]
    result = precis("rates", "--photos", tmp_path, *budgets, "--plot", tmp_path / "plot.png")
    assert result.exit_code == 0, result.output
    line = json.loads(result.stdout.splitlines()[-1])
    assert [(rate["codec"], rate["tokens"]) for rate in line["rates"]][:3] == [
        ("fp16", 2),
        ("sq8", 2),
        ("sq4", 2),
    ]
    assert all(rate["right"] == 100.0 for rate in line["rates"])
    assert line["texts"] == {"labels, text to image": 6}  # no photograph has a caption
    assert all(rate["recall"]["labels, text to image, R@1"] == 100.0 for rate in line["rates"])
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.format == "PNG"
    refused = precis("rates", "--photos", tmp_path, "--codec", "pq4")
    assert refused.exit_code == 1
    assert "trained state" in refused.output
