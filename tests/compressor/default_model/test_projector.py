"""What the projector makes of pictures: names, things with places and colours, seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from compressor.default_model.object_head import OBJECTS, Found
from compressor.default_model.projector import NAME_TOKENS, SEED_COUNT, WordProjector
from tests.compressor.tiny import WORDS, tiny_model


@pytest.fixture(scope="module")
def projector() -> WordProjector:
    found: WordProjector = tiny_model().base.model.multi_modal_projector
    return found


@pytest.fixture(scope="module")
def cells(projector: WordProjector) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(3, projector.vision.grid_size**2, projector.vision.hidden_size)


def things(
    projector: WordProjector, certainty: float, x: float = 0.1, y: float = 0.5
) -> tuple[Found, torch.Tensor]:
    """One picture with a red thing of the first name, at (x, y)."""
    colours = torch.zeros(1, OBJECTS, len(projector.colour_words))
    colours[..., 0] = 1
    names = torch.zeros(1, OBJECTS, len(projector.mean_name_words))
    names[..., 0] = 1
    return Found(
        torch.full((1, OBJECTS), certainty),
        torch.tensor([x, y, 0.2, 0.2]).expand(1, OBJECTS, 4),
        colours,
    ), names


@torch.inference_mode()
def test_shapes_and_probabilities(projector: WordProjector, cells: torch.Tensor) -> None:
    sight = projector(cells)
    hidden = projector.colour_words.shape[1]
    assert sight.visual_tokens.shape == (3, projector.cell_tokens + projector.extra_tokens, hidden)
    assert sight.seeds.shape == (3, SEED_COUNT, hidden)
    for each in (
        sight.names,
        sight.found_names,
        sight.background,
        sight.count,
        sight.found.colours,
    ):
        torch.testing.assert_close(each.sum(-1), torch.ones(each.shape[:-1]))


@torch.inference_mode()
def test_a_things_token_says_what_where_and_in_which_colour(projector: WordProjector) -> None:
    def token(x: float, y: float, certainty: float = 1.0) -> torch.Tensor:
        return projector._object_tokens(*things(projector, certainty, x, y))[0, 0]

    left, right, top, bottom = projector.place_words
    middle = token(0.5, 0.5)
    torch.testing.assert_close(
        middle, projector.mean_name_words[0] + 0.5 * projector.colour_words[0]
    )
    assert (
        (token(0.1, 0.5) - middle) @ (right - left)
        < 0
        < (token(0.9, 0.5) - middle) @ (right - left)
    )
    assert (
        (token(0.5, 0.1) - middle) @ (bottom - top)
        < 0
        < (token(0.5, 0.9) - middle) @ (bottom - top)
    )
    torch.testing.assert_close(token(0.1, 0.2, certainty=0.5), 0.5 * token(0.1, 0.2))


@torch.inference_mode()
def test_a_photograph_is_named_as_a_whole_and_cut_out_things_by_the_largest(
    projector: WordProjector, cells: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(certainty: float) -> tuple[torch.Tensor, torch.Tensor]:
        found, names = things(projector, certainty)
        wide = replace(
            found, **{key: value.expand(3, *value.shape[1:]) for key, value in vars(found).items()}
        )
        monkeypatch.setattr("compressor.default_model.projector.find", lambda _: wide)
        monkeypatch.setattr(projector, "found_names", lambda *_: names.expand(3, -1, -1))
        sight = projector(cells)
        return sight.names, sight.seeds

    names, seeds = seen(1.0)
    assert (names.argmax(1) == 0).all()
    torch.testing.assert_close(seeds[:, :NAME_TOKENS], projector.name_words[0].expand(3, -1, -1))
    names, seeds = seen(0.0)
    whole = projector.class_logits(projector.split(cells)[0].mean((2, 3))).argmax(1)
    assert (names.argmax(1) == whole).all()
    torch.testing.assert_close(seeds[:, -1], projector(cells).sense)


@torch.inference_mode()
def test_a_hidden_name_is_not_seen_and_known_again_afterwards(cells: torch.Tensor) -> None:
    base = tiny_model().base
    base.names = (*WORDS.classes, *WORDS.things)
    projector: WordProjector = base.model.multi_modal_projector
    plain = projector(cells)
    likeliest = [base.names[int(row)] for row in plain.found_names[:, 0].argmax(-1)]
    with base.as_if_unseen([{likeliest[0]}, {"something else"}, {likeliest[2]}], [None] * 3):
        hidden = projector(cells)
    for picture, name in ((0, likeliest[0]), (2, likeliest[2])):
        row = base.names.index(name)
        assert hidden.found_names[picture, :, row].max() == 0
        assert hidden.names[picture, row] == 0
        assert not torch.equal(hidden.visual_tokens[picture], plain.visual_tokens[picture])
    torch.testing.assert_close(hidden.visual_tokens[1], plain.visual_tokens[1])
    torch.testing.assert_close(projector(cells).visual_tokens, plain.visual_tokens)


@torch.inference_mode()
def test_seeds_without_a_thing_say_where_the_others_are(projector: WordProjector) -> None:
    left, right, top, bottom = projector.place_words
    words = torch.randn(1, 7, len(left))

    def filled(*certain: float, high: bool = True) -> torch.Tensor:
        found, _ = things(projector, 0.0)
        boxes = torch.tensor(
            [[0.1, 0.2, 0.2, 0.2], [0.8, 0.9 if high else 0.0, 0.2, 0.2]] + 2 * [[0.5] * 4]
        )
        certainty = torch.zeros(1, OBJECTS)
        certainty[0, : len(certain)] = torch.tensor(certain)
        return projector._in_place_of_things(
            replace(found, certainty=certainty, boxes=boxes[None]), words
        )[0]

    torch.testing.assert_close(filled(), words[0, :3])
    alone = filled(1.0)
    assert alone[0].abs().max() == 0
    assert alone[1] @ (right - left) < 0
    assert alone[2] @ (bottom - top) < 0
    assert (
        filled(1.0, 1.0, high=True)[2] @ (bottom - top)
        < 0
        < filled(1.0, 1.0, high=False)[2] @ (bottom - top)
    )
    assert filled(1.0, 1.0, 1.0).abs().max() == 0
