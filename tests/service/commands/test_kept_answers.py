"""Answers from what a codec keeps: each picture goes through the first pass once."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from compressor.ports import Summary
from index.codecs.scalar import SELF_CONTAINED
from service.commands.kept_answers import ImageQuestion, KeptAnswers
from tests.fakes.model import FakeGenerator, FakeSummaryModel
from tests.service.conftest import flat

RED = flat("red")
BLUE = flat("blue")


class Counting(FakeSummaryModel):
    """Counts what it looks at."""

    def __init__(self) -> None:
        self.looked_at = 0

    def compress(self, images: Sequence[Image.Image]) -> Summary:
        self.looked_at += len(images)
        return super().compress(images)


def ask(answers: KeptAnswers, *images: Image.Image) -> str:
    (answer,) = answers([ImageQuestion(images, "what?", 8)])
    return answer


def test_each_picture_is_compressed_once() -> None:
    model = Counting()
    answers = KeptAnswers(model, FakeGenerator(), SELF_CONTAINED["sq4"]())
    both = [
        ImageQuestion((RED,), "what?", 8),
        ImageQuestion((RED, BLUE), "what?", 8),
    ]
    assert answers(both) == ["I see red.", "I see red blue."]
    assert ask(answers, RED.copy()) == "I see red."
    assert model.looked_at == 2
    ask(answers, RED.convert("L"))
    assert model.looked_at == 3  # grey is another picture


def test_an_answer_ends_where_it_should() -> None:
    codec = SELF_CONTAINED["fp16"]()
    answers = KeptAnswers(FakeSummaryModel(), FakeGenerator(), codec)
    questions = [
        ImageQuestion((RED,), "what?", 1),
        ImageQuestion((RED,), "what?", 8, (" red", "")),
        ImageQuestion((RED,), "what?", 8, ("\n",)),
    ]
    assert answers(questions) == ["I see", "I see", "I see red."]
