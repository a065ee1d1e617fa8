"""What the confidence of answers and of hits is judged by."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image

from compressor.evaluation.verdicts import (
    QuestionAbout,
    Searches,
    answer_verdicts,
    hit_verdicts,
    named_in,
    questions_of,
    searches_of,
)
from compressor.training.datasets import Entry
from compressor.training.sample import QA
from tests.fakes.model import FakeGenerator, FakeSummaryModel
from tests.service.conftest import flat


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


SAID = {
    "red": ("A dog runs on red grass.",),
    "green": ("Two dogs in a field", "green"),
    "blue": ("A man on a boat",),
}


def searches() -> Searches:
    entries = [
        Entry(colour, (lambda colour=colour: flat(colour),), captions=captions)  # type: ignore[misc]
        for colour, captions in SAID.items()
    ]
    return searches_of(entries)


@pytest.mark.parametrize(
    ("text", "owner", "right"),
    [
        ("dogs", 0, {"red", "green"}),
        ("the Dog", 1, {"red", "green"}),
        ("a dog in a field", 1, {"green"}),
        ("of the", 2, {"blue"}),
    ],
)
def test_right_is_each_image_of_which_all_is_said_that_the_text_names(
    text: str, owner: int, right: set[str]
) -> None:
    about = searches()
    asked = Searches(about.images, about.said, [text], [owner])
    model = FakeSummaryModel()
    of_text, of_nonsense = hit_verdicts(model, asked)
    found = [about.images[number] for number in _order(model, asked)]
    names = [
        colour
        for image, is_right in zip(found, of_text[1].right, strict=True)
        if is_right
        for colour in SAID
        if image().getpixel((0, 0)) == flat(colour).getpixel((0, 0))
    ]
    assert set(names) == right
    assert not of_nonsense[1].right.any()


def _order(model: FakeSummaryModel, asked: Searches) -> list[int]:
    """The images of the first text, the likeliest first."""
    embeddings = model.compress([image() for image in asked.images]).embeddings
    scores = embeddings @ model.embed_text(asked.texts)[0]
    return sorted(range(len(scores)), key=lambda number: -scores[number])


def test_words_that_name_something() -> None:
    assert named_in("A photo of two Dogs, in the grass.") == {"2", "dog", "gras"}
    assert named_in("of the") == frozenset()


def test_an_image_is_compressed_once_for_all_questions_about_it() -> None:
    opened: list[str] = []

    def image(colour: str) -> Callable[[], Image.Image]:
        def open_image() -> Image.Image:
            opened.append(colour)
            return flat(colour)

        return open_image

    asked = [
        QuestionAbout(each, question, colour)
        for colour, each in ((colour, image(colour)) for colour in SAID)
        for question in ("What colour?", "Which colour is it?")
    ]
    verdicts = answer_verdicts(FakeSummaryModel(), FakeGenerator(), asked)
    assert len(verdicts.right) == len(asked)
    assert opened == list(SAID)
