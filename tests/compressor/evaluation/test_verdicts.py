"""What the confidence of answers is judged by."""

from __future__ import annotations

from PIL import Image

from compressor.evaluation.verdicts import questions_of
from compressor.training.datasets import Entry
from compressor.training.sample import QA


def test_only_turns_that_need_no_earlier_one_are_asked() -> None:
    def turn(question: str) -> QA:
        return QA(question, "Yes.", "instruction")

    entry = Entry(
        "a",
        (lambda: Image.new("RGB", (1, 1)),),
        questions=(turn("Alone?"),),
        conversations=((turn("First?"), turn("Then?")), (turn("Other?"),)),
    )
    asked = [each.question for each in questions_of([entry])]
    assert asked == ["Alone?", "First?", "Other?"]
