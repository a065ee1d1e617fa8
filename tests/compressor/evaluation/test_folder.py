from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from compressor.evaluation.folder import (
    AnsweredQuestion,
    answered_questions,
    description_figure,
    descriptions,
    figures_by_kind,
    interval,
    recall_figures,
)
from compressor.ports import Summary
from compressor.training.datasets import Entry
from compressor.training.sample import QA
from tests.fakes.model import FakeGenerator, FakeSummaryModel

COLOURS = ("red", "green", "blue")


def entry(colour: str) -> Entry:
    questions = (
        QA("What colour?", f"{colour}.", "colour"),
        QA("Red?", "Yes.", "exists"),
    )
    return Entry(
        colour,
        (lambda: Image.new("RGB", (8, 8), colour),),
        captions=(f"a {colour} square", f"a square that is {colour}"),
        questions=questions,
        queries=() if colour == "red" else (colour,),
    )


ENTRIES = [entry(colour) for colour in COLOURS]


def answer(expected: str, said: str, kind: str = "colour") -> AnsweredQuestion:
    return AnsweredQuestion("a.png", QA("?", expected, kind), said)


def test_exact_ignores_form_and_the_key_word_comes_first() -> None:
    assert answer("Two.", "2").is_exact
    assert answer("A blue shirt.", "blue shirt").is_exact
    assert not answer("Running.", "Running in the snow.").is_exact
    assert answer("Running.", "Running in the snow.").has_key_word
    assert not answer("Running.", "A dog running.").has_key_word
    assert not answer("Running.", "").has_key_word


def test_shares_by_kind() -> None:
    answered = [
        answer("Red.", "Red."),
        answer("Blue.", "Red."),
        answer("Yes.", "Yes.", "exists"),
    ]
    figures = figures_by_kind(answered)
    assert figures["colour"]["exact"].value == 0.5
    assert figures["colour"]["exact"].count == 2
    assert figures["exists"]["key word"].value == 1.0


def test_the_interval_holds_the_mean_and_shrinks_with_the_count() -> None:
    few, many = interval([0.0, 1.0] * 5), interval([0.0, 1.0] * 500)
    assert few.low < 0.5 < few.high
    assert many.high - many.low < few.high - few.low
    same = interval([1.0, 1.0])
    assert (same.low, same.high) == (1.0, 1.0)


def test_the_generator_answers_from_the_tokens_of_each_image() -> None:
    """Every question of every image once, its answer from its own image's tokens."""
    model = FakeSummaryModel()
    answered = list(
        answered_questions(
            FakeGenerator(),
            lambda images: list(model.compress(images).tokens),
            ENTRIES,
            iter,
        )
    )
    assert len(answered) == 6
    for one in answered:
        assert one.image in one.answer


def test_a_question_about_several_images_is_answered_from_the_tokens_of_all() -> None:
    model = FakeSummaryModel()
    pair = replace(
        ENTRIES[0],
        images=(*ENTRIES[0].images, *ENTRIES[1].images),
        captions=(),
        queries=(),
    )
    answered = answered_questions(
        FakeGenerator(),
        lambda images: list(model.compress(images).tokens),
        [pair, ENTRIES[2]],
        iter,
    )
    texts = [one.answer for one in answered]
    for colour in COLOURS[:2]:
        assert sum(colour in text for text in texts) == len(pair.questions)
    assert sum(COLOURS[2] in text for text in texts) == len(ENTRIES[2].questions)


def test_several_images_together_are_found_by_no_text() -> None:
    pair = replace(ENTRIES[0], images=ENTRIES[0].images * 2, captions=(), queries=())
    assert recall_figures(FakeSummaryModel(), [pair], iter) == {}


def test_descriptions_are_scored_against_all_captions() -> None:
    model = FakeSummaryModel()
    texts = descriptions(
        FakeGenerator(),
        lambda images: list(model.compress(images).tokens),
        ENTRIES,
        iter,
    )
    assert [colour in text for colour, text in zip(COLOURS, texts, strict=True)] == [
        True,
        True,
        True,
    ]
    right = description_figure([one.captions[0] for one in ENTRIES], ENTRIES)
    wrong = description_figure(["nothing of it"] * 3, ENTRIES)
    assert right.value > 1 > wrong.value == 0
    assert right.low <= right.value <= right.high


def test_recall_counts_a_tie_as_lost() -> None:
    found = recall_figures(FakeSummaryModel(), ENTRIES, iter)
    assert found["caption to image, R@1"].value == 100
    same = recall_figures(_Same(), ENTRIES, iter)
    assert same["caption to image, R@1"].value == 0
    assert same["caption to image, R@5"].value == 100


def test_images_without_a_query_are_among_those_searched() -> None:
    found = recall_figures(FakeSummaryModel(), ENTRIES, iter)["query to image, R@1"]
    assert (found.value, found.count) == (100, 2)
    same = recall_figures(_Same(), ENTRIES, iter)
    assert same["query to image, R@1"].value == 0  # all three tie
    captioned = [replace(entry, queries=()) for entry in ENTRIES]
    names = recall_figures(FakeSummaryModel(), captioned, iter)
    assert {name.split(",")[0] for name in names} == {"caption to image"}


class _Same(FakeSummaryModel):
    """Gives everything one embedding."""

    def compress(self, images: list[Image.Image]) -> Summary:  # type: ignore[override]
        summary = super().compress(images)
        return Summary(summary.tokens, np.ones_like(summary.embeddings))

    def embed_text(self, texts: list[str]) -> np.ndarray:  # type: ignore[override,type-arg]
        return np.ones_like(super().embed_text(texts))
