"""Packed questions against separate sequences, and what the mask lets through."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.packing import (
    PackedBatch,
    answer_ids,
    assign_rows,
    block_diagonal_mask,
    pack,
    tokenize,
)
from compressor.training.sample import QA

ASKED = [
    [
        ("What is it?", "A cat."),
        ("What colour is it? Say it in one word.", "Blue."),
        ("How many?", "Two fish."),
    ]
    + [
        (
            "And what else is there to be seen in the picture?",
            "A very small boat far out on the sea.",
        )
    ]
    * 3,
    [("Is there a dog?", "Yes.")],
    [("What is it?", "A kite."), ("What is it, please?", "An umbrella over two red apples.")],
]


def packed_questions(
    model: SummaryLvlm,
    images: list[torch.Tensor],
    asked: list[list[tuple[str, str]]],
) -> PackedBatch:
    questions = [[QA(*pair, kind="any") for pair in pairs] for pairs in asked]
    return pack(model, images, [tokenize(model, pairs) for pairs in questions])


def test_a_packed_row_gives_the_logits_of_separate_sequences(frozen_model: SummaryLvlm) -> None:
    model = frozen_model
    images = list(torch.randn(3, 8, model.hidden_size, generator=torch.Generator().manual_seed(1)))
    packed = packed_questions(model, images, ASKED)
    assert len(packed.labels) == 2  # the two shorter ones share a row
    with torch.no_grad(), model.adapters.use("second_pass"):
        together = model.base(
            inputs_embeds=packed.inputs_embeds,
            attention_mask=packed.attention_mask,
            position_ids=packed.position_ids,
        ).logits
        order = [number for row in assign_rows(lengths(model, images)) for number in row]
        found, labels = (
            together[packed.labels != -100],
            packed.labels[packed.labels != -100].tolist(),
        )
        for number in order:
            for question, answer in ASKED[number]:
                prompt = model.prompt_ids(1, [("user", question)])
                ids = answer_ids(model, answer)
                embedded = model.with_images([*prompt, *ids[:-1]], [images[number]])
                expected = model.base(inputs_embeds=embedded[None]).logits[0, -len(ids) :]
                torch.testing.assert_close(found[: len(ids)], expected, atol=1e-4, rtol=1e-4)
                assert labels[: len(ids)] == ids
                found, labels = found[len(ids) :], labels[len(ids) :]
        assert not labels


def lengths(model: SummaryLvlm, images: list[torch.Tensor]) -> list[int]:
    """Of each image with its questions alone."""
    return [
        packed_questions(model, [image], [asked]).labels.shape[1]
        for image, asked in zip(images, ASKED, strict=True)
    ]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_rows_are_no_longer_than_the_longest_and_hold_all(some: list[int]) -> None:
    rows = assign_rows(some)
    assert sorted(number for row in rows for number in row) == list(range(len(some)))
    assert all(sum(some[number] for number in row) <= max(some) for row in rows)


@pytest.mark.parametrize("seed", range(5))
def test_little_is_padding(frozen_model: SummaryLvlm, seed: int) -> None:
    """Sixteen images with one to eight questions whose answers have 1 to 60 words, most of them short."""
    draw = random.Random(seed)
    asked = [
        [
            ("What is it?", "word " * min(60, int(draw.lognormvariate(1.5, 1)) + 1))
            for _ in range(draw.randint(1, 8))
        ]
        for _ in range(16)
    ]
    image = torch.zeros(8, frozen_model.hidden_size)
    packed = packed_questions(frozen_model, [image] * 16, asked)
    assert packed.padding < 0.2


def test_an_answer_begins_with_a_space_where_the_prompt_does_not_end_in_one(
    frozen_model: SummaryLvlm,
) -> None:
    assert frozen_model.prompt_ends_open()
    ids = answer_ids(frozen_model, "Yes.")
    assert ids[-1] == frozen_model.end_ids[0]
    assert frozen_model.tokenizer.decode(ids[:-1]) == " Yes."


def test_packing_saves_the_shared_part(frozen_model: SummaryLvlm) -> None:
    image = torch.zeros(8, frozen_model.hidden_size)
    one = packed_questions(
        frozen_model, [image], [[("What is it?", "A cat.")]]
    ).inputs_embeds.shape[1]
    three = packed_questions(
        frozen_model, [image], [[("What is it?", "A cat.")] * 3]
    ).inputs_embeds.shape[1]
    assert three < 2 * one


@st.composite
def segment_rows(draw: st.DrawFn) -> list[int]:
    """Shared tokens first, questions after one another, padding last."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=0, max_size=4))
    rest = [number for number, length in enumerate(lengths, 1) for _ in range(length)]
    return [0] * draw(st.integers(1, 5)) + rest + [-1] * draw(st.integers(0, 4))


@given(segment_rows())
@settings(max_examples=60, deadline=None)
def test_a_token_sees_what_it_would_see_alone_and_nothing_else(row: list[int]) -> None:
    owners = torch.tensor([[-1 if segment < 0 else 3 for segment in row]])
    mask = block_diagonal_mask(owners, torch.tensor([row]))[0, 0]
    assert mask.shape == (len(row), len(row))
    for query, own in enumerate(row):
        seen = [key for key in range(len(row)) if mask[query, key] == 0]
        assert query in seen  # or its softmax would have nothing to go by
        if own >= 0:
            assert seen == [key for key in range(query + 1) if row[key] in (0, own)]
        assert all((mask[query, key] == 0) or mask[query, key] < -1e30 for key in range(len(row)))


def test_images_in_one_row_do_not_see_each_other() -> None:
    owners, segments = torch.tensor([[0, 0, 0, 5, 5, -1]]), torch.tensor([[0, 1, 2, 0, 1, -1]])
    seen = (block_diagonal_mask(owners, segments)[0, 0] == 0).int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
