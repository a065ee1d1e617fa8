"""Figures over fakes whose answers and embeddings are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from compressor.default_model.data.photos import Photo
from compressor.default_model.data.questions import CaptionPair
from compressor.default_model.evaluation import figures
from compressor.default_model.evaluation.heldout import HeldOutQuestion, RetrievalSet
from compressor.evaluation.scores import text_to_image_recall, token_sources
from compressor.fwd2bot.baselines import BASELINES, SUMMARY_TOKENS, pool
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import GenerationLimits, GenerationRequest, Piece, Summary
from tests.conformance.summary_model_suite import pictures

COLOURS = ("red", "green", "blue")


class FakeGenerator:
    """Says the colour word that the first token's largest value stands for."""

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        for number, request in enumerate(requests):
            yield Piece(
                number,
                f" It is {COLOURS[int(request.images[0][0].argmax())]}",
                1,
                1,
            )
            yield Piece(number, ".", 1, 2, "stop")


class FakeModel:
    """Embeds pictures and texts by their colour."""

    fingerprint, tokens_shape, embedding_size = "0" * 32, (1, 3), 3

    def compress(self, images: Sequence[Image.Image]) -> Summary:
        pixels = [np.asarray(image, np.float32) / 255 for image in images]
        means = np.stack([image.mean((0, 1)) for image in pixels])
        return Summary(means[:, np.newaxis], means)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        has_colour = np.empty((len(texts), len(COLOURS)), np.float32)
        for row, text in enumerate(texts):
            has_colour[row] = [colour in text for colour in COLOURS]
        return has_colour


def tokens_of(images: Sequence[Image.Image]) -> list[np.ndarray]:
    return list(FakeModel().compress(images).tokens)


def test_answers_are_judged_against_the_expected_one() -> None:
    colours = [COLOURS[number % 3] for number in range(20)]
    questions = []
    for colour in colours:
        image = Image.new("RGB", (2, 2), colour)
        questions.append(
            HeldOutQuestion(
                image,
                "Which colour?",
                "red",
                "colour",
            )
        )
    answers = list(
        figures.answer(
            tokens_of,
            FakeGenerator(),
            iter(questions),
        )
    )
    for answer, colour in zip(answers, colours, strict=True):
        assert answer.answer == f"It is {colour}."
        assert answer.right == (colour == "red")
    limited = figures.answer(
        tokens_of,
        FakeGenerator(),
        iter(questions),
        limit=5,
    )
    assert len(list(limited)) == 5


def test_recall_counts_the_texts_whose_picture_is_among_the_first(
    tmp_path: Path,
) -> None:
    photos = []
    for colour in COLOURS:
        Image.new("RGB", (2, 2), colour).save(tmp_path / f"{colour}.png")
        photos.append(Photo(tmp_path / f"{colour}.png", colour, ()))
    right = RetrievalSet(photos, [f"something {colour}" for colour in COLOURS])
    assert text_to_image_recall(FakeModel(), right, (1, 2)) == {
        "R@1": 100.0,
        "R@2": 100.0,
    }
    turned = RetrievalSet(photos, ["blue", "green", "red"])
    assert text_to_image_recall(FakeModel(), turned, (1, 3)) == {
        "R@1": 33.3,
        "R@3": 100.0,
    }


def test_a_wrong_caption_with_the_same_score_is_not_preferred() -> None:
    red = Image.new("RGB", (2, 2), "red")
    right = CaptionPair("red", "blue", "colours")
    wrong = CaptionPair("blue", "red", "colours")
    tie = CaptionPair("red", "red", "")
    pairs = iter([(red, right), (red, wrong), (red, tie)])
    assert figures.preferred(FakeModel(), pairs) == [True, False, False]


def test_every_source_gives_tokens_of_the_models_size(
    frozen_model: SummaryLvlm,
) -> None:
    known = token_sources(LvlmSummaryModel(frozen_model, "0" * 32), frozen_model)
    assert set(known) == {SUMMARY_TOKENS, *BASELINES}
    count = frozen_model.config.token_count
    shapes = {
        name: {each.shape for each in tokens(pictures())}
        for name, tokens in known.items()
    }
    (visual,) = shapes.pop("all visual tokens")
    assert visual[0] > count
    assert set().union(*shapes.values()) == {(count, visual[1])}


def test_pooling_takes_means_of_neighbours() -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.testing.assert_allclose(
        pool(torch.from_numpy(vectors), 3), [[1, 2], [5, 6], [9, 10]]
    )
