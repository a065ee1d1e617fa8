"""Sources mixed by weight, and taken up again exactly."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import pytest
from PIL import Image

from compressor.errors import DataInvalid
from compressor.training.datasets import Blend, Entry, Instructions


def source(name: str, count: int) -> Instructions:
    entries = [
        Entry(lambda: Image.new("RGB", (2, 2)), ((f"{name} {number}?", f"{name}."),), ())
        for number in range(count)
    ]
    return Instructions(entries, 1, {})


def asked(blend: Blend, count: int) -> list[str]:
    return [sample.questions[0].question for sample in islice(blend, count)]


def shares(blend: Blend) -> Counter[str]:
    return Counter(question.split()[0] for question in asked(blend, 400))


def test_weights_are_shares_of_the_samples() -> None:
    found = shares(Blend([source("a", 5), source("b", 500)], [3, 1], 1))
    assert 260 < found["a"] < 340
    assert found["a"] + found["b"] == 400


def test_without_weights_every_sample_comes_as_often() -> None:
    assert 10 < shares(Blend([source("a", 10), source("b", 90)], [], 1))["a"] < 80


def test_a_stream_goes_on_exactly_where_it_stopped() -> None:
    def made() -> Blend:
        return Blend([source("a", 7), source("b", 11)], [1, 2], 3)

    first = made()
    asked(first, 23)
    state = json.loads(json.dumps(first.state_dict()))
    rest = asked(first, 40)
    again = made()
    again.load_state_dict(state)
    assert asked(again, 40) == rest
    for other in (
        Blend([source("a", 7), source("b", 11)], [1, 1], 3),
        Blend([source("a", 8), source("b", 11)], [1, 2], 3),
    ):
        with pytest.raises(DataInvalid):
            other.load_state_dict(state)
    with pytest.raises(DataInvalid):  # a run over one source, taken up with two
        made().load_state_dict(source("a", 7).state_dict())


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], [1, 1, 1]])
def test_wrong_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(DataInvalid, match="2 sources"):
        Blend([source("a", 1), source("b", 1)], weights, 1)
