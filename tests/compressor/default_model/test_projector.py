"""The projector's output: names, objects with places and colours, the start of the summary."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from compressor.default_model.llava import word_llava
from compressor.default_model.object_head import MAX_OBJECTS, Detections
from compressor.default_model.projector import (
    SERVING,
    SUMMARY_INIT_COUNT,
    Description,
    ProjectorOutput,
    WordProjector,
)
from compressor.default_model.soft_word_projector import NAME_TOKENS
from tests.compressor.tiny import WORDS, tiny_model


@pytest.fixture(scope="module")
def projector() -> WordProjector:
    return word_llava(tiny_model().base).projector


@pytest.fixture(scope="module")
def cells(projector: WordProjector) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(
        3,
        projector.vision.grid_size**2,
        projector.vision.hidden_size,
    )


def red_objects(
    projector: WordProjector,
    score: float,
    x: float = 0.1,
    y: float = 0.5,
) -> tuple[Detections, Tensor]:
    """One picture with red objects of the first name, all at (x, y)."""
    colours = torch.zeros(
        1,
        MAX_OBJECTS,
        len(projector.colour_words),
    )
    colours[..., 0] = 1
    names = torch.zeros(
        1,
        MAX_OBJECTS,
        len(projector.mean_name_words),
    )
    names[..., 0] = 1
    scores = torch.full((1, MAX_OBJECTS), score)
    boxes = torch.tensor([x, y, 0.2, 0.2]).expand(
        1,
        MAX_OBJECTS,
        4,
    )
    return Detections(scores, boxes, colours), names


@torch.inference_mode()
def test_shapes_and_probabilities(projector: WordProjector, cells: Tensor) -> None:
    output = projector(cells)
    hidden = projector.colour_words.shape[1]
    tokens = projector.cell_tokens + projector.extra_tokens
    assert output.visual_tokens.shape == (3, tokens, hidden)
    assert output.summary_init.shape == (3, SUMMARY_INIT_COUNT, hidden)
    description: Description = output.description
    for probabilities in (
        output.names,
        output.object_names,
        output.detections.colours,
        description.background,
        description.count,
    ):
        ones = torch.ones(probabilities.shape[:-1])
        torch.testing.assert_close(probabilities.sum(-1), ones)


@torch.inference_mode()
def test_an_object_token_has_name_place_and_colour(projector: WordProjector) -> None:
    def token(x: float, y: float, score: float = 1.0) -> Tensor:
        detections, names = red_objects(projector, score, x, y)
        return projector._object_tokens(detections, names)[0, 0]

    left, right, top, bottom = projector.place_words
    middle = token(0.5, 0.5)
    name, red = projector.mean_name_words[0], projector.colour_words[0]
    torch.testing.assert_close(middle, name + 0.5 * red)
    assert (token(0.1, 0.5) - middle) @ (right - left) < 0
    assert (token(0.9, 0.5) - middle) @ (right - left) > 0
    assert (token(0.5, 0.1) - middle) @ (bottom - top) < 0
    assert (token(0.5, 0.9) - middle) @ (bottom - top) > 0
    torch.testing.assert_close(token(0.1, 0.2, score=0.5), 0.5 * token(0.1, 0.2))


@torch.inference_mode()
def test_a_photograph_is_named_as_a_whole_and_a_scene_after_its_largest_object(
    projector: WordProjector,
    cells: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def names_and_start(score: float) -> tuple[Tensor, Tensor]:
        one, names = red_objects(projector, score)
        parts = {
            key: value.expand(3, *value.shape[1:]) for key, value in vars(one).items()
        }
        detected = (Detections(**parts), names.expand(3, -1, -1))
        monkeypatch.setattr(projector, "detect", lambda *_: detected)
        output = projector(cells)
        return output.names, output.summary_init

    names, start = names_and_start(1.0)
    assert (names.argmax(1) == 0).all()
    torch.testing.assert_close(
        start[:, :NAME_TOKENS], projector.name_words[0].expand(3, -1, -1)
    )
    names, start = names_and_start(0.0)
    features, _, _ = projector.split(cells)
    whole = projector.class_logits(features.mean((2, 3))).argmax(1)
    assert (names.argmax(1) == whole).all()
    _, caption_embedding = projector.caption_outputs(features.mean((2, 3)), SERVING)
    torch.testing.assert_close(start[:, -1], caption_embedding)


@torch.inference_mode()
def test_a_hidden_name_is_impossible_for_its_picture_until_the_context_ends(
    cells: Tensor,
) -> None:
    base = word_llava(tiny_model().base)
    base.names = (*WORDS.classes, *WORDS.objects)

    def output() -> ProjectorOutput:
        return base.projector(cells, base.model.projector_context)

    plain = output()
    likeliest = [base.names[int(row)] for row in plain.object_names[:, 0].argmax(-1)]
    hidden_names = [{likeliest[0]}, {"something else"}, {likeliest[2]}]
    with base.out_of_fold(hidden_names, [None] * 3):
        hidden = output()
    for picture in (0, 2):
        row = base.names.index(likeliest[picture])
        assert hidden.object_names[picture, :, row].max() == 0
        assert hidden.names[picture, row] == 0
        assert not torch.equal(
            hidden.visual_tokens[picture], plain.visual_tokens[picture]
        )
    torch.testing.assert_close(hidden.visual_tokens[1], plain.visual_tokens[1])
    torch.testing.assert_close(output().visual_tokens, plain.visual_tokens)


@torch.inference_mode()
def test_positions_without_an_object_say_where_the_others_are(
    projector: WordProjector,
) -> None:
    left, right, top, bottom = projector.place_words
    caption_tokens = torch.randn(1, 7, len(left))

    def stand_ins(*scores: float, second_is_lower: bool = True) -> Tensor:
        detections, _ = red_objects(projector, 0.0)
        second_y = 0.9 if second_is_lower else 0.0
        boxes = [
            [0.1, 0.2, 0.2, 0.2],
            [0.8, second_y, 0.2, 0.2],
            [0.5] * 4,
            [0.5] * 4,
        ]
        score = torch.zeros(1, MAX_OBJECTS)
        score[0, : len(scores)] = torch.tensor(scores)
        detections = replace(
            detections,
            score=score,
            boxes=torch.tensor([boxes]),
        )
        return projector._stand_ins(detections, caption_tokens)[0]

    torch.testing.assert_close(stand_ins(), caption_tokens[0, :3])
    first, second, third = stand_ins(1.0)
    assert first.abs().max() == 0
    assert second @ (right - left) < 0
    assert third @ (bottom - top) < 0
    assert stand_ins(1.0, 1.0)[2] @ (bottom - top) < 0
    assert stand_ins(1.0, 1.0, second_is_lower=False)[2] @ (bottom - top) > 0
    assert stand_ins(1.0, 1.0, 1.0).abs().max() == 0
