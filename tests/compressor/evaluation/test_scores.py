"""Scores by hand from known embeddings, and over a fake that sees colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compressor.evaluation import scores
from compressor.evaluation.compositional import (
    Crossed,
    WrongCaption,
    sugarcrepe_scores,
    winoground_scores,
)
from compressor.evaluation.karpathy import CaptionedImage, both_ways
from compressor.evaluation.vqa import AskedImage
from tests.fakes.model import PALETTE, FakeGenerator, FakeSummaryModel


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """A picture of each colour."""
    paths = {}
    for colour, shade in PALETTE.items():
        paths[colour] = tmp_path / f"{colour}.png"
        Image.new("RGB", (8, 8), shade).save(paths[colour])
    return paths


def test_recall_both_ways() -> None:
    """Three images with two captions each; those of the second lie nearer to the first image."""
    images = np.eye(3, dtype=np.float32)
    captions = np.array(
        [
            [1, 0, 0],
            [0.9, 0.1, 0],
            [0.8, 0.7, 0],
            [0.9, 0.2, 0],
            [0, 0, 1],
            [0.5, 0.2, 0.4],
        ],
        dtype=np.float32,
    )
    found = both_ways(images, captions, [0, 0, 1, 1, 2, 2])
    assert found["text to image, R@1"] == 50.0  # captions 0, 1 and 4
    assert found["text to image, R@5"] == 100.0
    # Each image prefers a caption of its own to all others.
    assert found["image to text, R@1"] == 100.0


def test_of_equal_scores_the_wrong_ones_come_first() -> None:
    same = np.ones((2, 2), dtype=np.float32)
    assert both_ways(same, same, [0, 1])["text to image, R@1"] == 0
    assert both_ways(same, same, [0, 1])["image to text, R@1"] == 0


def test_winoground_by_hand() -> None:
    right = [[0.9, 0.1], [0.2, 0.8]]
    text_only = [
        [0.5, 0.6],
        [0.4, 0.7],
    ]  # each image prefers its caption; caption 0 prefers image 1
    image_only = [[0.5, 0.4], [0.6, 0.7]]
    tie = [[0.5, 0.5], [0.5, 0.5]]
    table = np.array([right, text_only, image_only, tie], dtype=np.float32)
    assert winoground_scores(table) == {"text": 50.0, "image": 50.0, "group": 25.0}


def test_sugarcrepe_is_the_mean_over_categories() -> None:
    assert sugarcrepe_scores({"a": [True] * 9 + [False], "b": [True, False]}) == {
        "a": 90.0,
        "b": 50.0,
        "mean": 70.0,
    }


def test_colours_are_retrieved(pictures: dict[str, Path]) -> None:
    images = [
        CaptionedImage(path, (f"a {colour} wall", f"all {colour}"))
        for colour, path in pictures.items()
    ]
    found = scores.captioned(
        FakeSummaryModel(),
        images,
        lambda numbers: numbers,
    )
    assert found["text to image, R@1"] == found["image to text, R@1"] == 100.0


def test_colours_are_told_apart(pictures: dict[str, Path]) -> None:
    model = FakeSummaryModel()
    questions = {
        "good": [WrongCaption(pictures["red"], "a red wall", "a blue wall")],
        "bad": [WrongCaption(pictures["red"], "a blue wall", "a red wall")],
    }
    assert scores.sugarcrepe(model, questions, lambda numbers: numbers) == {
        "good": 100.0,
        "bad": 0.0,
        "mean": 50.0,
    }
    crossed = [Crossed((pictures["red"], pictures["blue"]), ("red", "blue"))]
    assert scores.winoground(model, crossed, lambda numbers: numbers)["group"] == 100.0
    crossed = [Crossed((pictures["red"], pictures["blue"]), ("blue", "red"))]
    assert scores.winoground(model, crossed, lambda numbers: numbers)["group"] == 0.0


def test_answers_are_scored(pictures: dict[str, Path]) -> None:
    asked = [
        AskedImage(pictures["red"], "which colour?", ("I see red",)),
        AskedImage(pictures["blue"], "which colour?", ("I see red",)),
    ]
    given = list(
        scores.answered(
            FakeSummaryModel(),
            FakeGenerator(),
            asked,
            "exact",
            lambda numbers: numbers,
        )
    )
    assert [(text, value) for _, text, value in given] == [
        ("I see red.", 1.0),
        ("I see blue.", 0.0),
    ]
