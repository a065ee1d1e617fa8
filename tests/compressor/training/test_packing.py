"""Packed questions against separate sequences, and what the mask lets through."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.packing import (
    NO_LABEL,
    PackedBatch,
    TokenizedSample,
    assign_rows,
    block_diagonal_mask,
    pack,
    tokenize,
)
from compressor.training.sample import QA


def packed_questions(
    model: SummaryLvlm,
    images: list[torch.Tensor],
    asked: list[list[tuple[str, str]]],
) -> PackedBatch:
    tokenized = []
    for pairs in asked:
        questions = [QA(*pair, kind="any") for pair in pairs]
        tokenized.append(tokenize(model, [(question,) for question in questions]))
    return pack(model, [[image] for image in images], tokenized)


def expected_logits(
    model: SummaryLvlm, images: Sequence[torch.Tensor], turns: Sequence[QA]
) -> tuple[torch.Tensor, list[int]]:
    """What predicts the answers of one conversation, read alone; and their tokens."""
    texts = []
    for turn in turns:
        texts += [("user", turn.question), ("assistant", turn.answer)]
    conversation = model.conversation(len(images), texts)
    ids = list(conversation.ids)
    embedded = model.with_images(ids, images)
    grown = len(embedded) - len(ids)
    logits = model.base(inputs_embeds=embedded[None]).logits[0]
    places = [place for answer in conversation.answers for place in answer]
    predicted_by = torch.tensor(places) + grown - 1
    return logits[predicted_by], [ids[place] for place in places]


DIALOGUE = (
    QA("What is it?", "A cat.", "any"),
    QA("What colour?", "Grey.", "any"),
    QA("Is it asleep on the sofa?", "Yes, and two kittens with it.", "any"),
)
CONVERSATIONS = [
    [DIALOGUE, (QA("How many?", "Three.", "any"),), DIALOGUE[:2]],
    [(QA("Is there a dog?", "Yes.", "any"),)],
    [
        (QA("What is it?", "A kite.", "any"),),
        (QA("What is it, please?", "An umbrella.", "any"),),
    ],
    [DIALOGUE],
]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_row_gives_the_logits_of_separate_sequences(
    frozen_model: SummaryLvlm, attention: str
) -> None:
    model = frozen_model
    model.base.set_attn_implementation(attention)
    draw = torch.Generator().manual_seed(1)
    # Three budgets: images may have different numbers of vectors, and samples of images.
    images = []
    for counts in ([8], [4], [8, 1, 4], [1, 8]):
        rows = [
            torch.randn(count, model.hidden_size, generator=draw) for count in counts
        ]
        images.append(rows)
    tokenized = []
    for rows, conversations in zip(images, CONVERSATIONS, strict=True):
        tokenized.append(tokenize(model, conversations, image_count=len(rows)))
    with torch.no_grad(), model.adapters.use("second_pass"):
        packed = pack(model, images, tokenized)
        assert len(packed.labels) < len(images)  # the shorter ones share a row
        together = model.base(**packed.inputs).logits
        predicts = packed.labels != NO_LABEL
        found, labels = together[predicts], packed.labels[predicts].tolist()
        lengths = [
            len(sample.ids) + sum(map(len, rows)) - len(rows)
            for sample, rows in zip(tokenized, images, strict=True)
        ]
        for number in (number for row in assign_rows(lengths) for number in row):
            for turns in CONVERSATIONS[number]:
                expected, ids = expected_logits(model, images[number], turns)
                torch.testing.assert_close(
                    found[: len(ids)], expected, atol=1e-4, rtol=1e-4
                )
                assert labels[: len(ids)] == ids
                found, labels = found[len(ids) :], labels[len(ids) :]
    model.base.set_attn_implementation("sdpa")
    assert not labels


def answers(model: SummaryLvlm, sample: TokenizedSample) -> str:
    """The text that the labels of a tokenized sample teach."""
    taught = [label for label in sample.labels if label != NO_LABEL]
    return str(model.tokenizer.decode(taught))


def test_every_answer_of_a_conversation_is_taught(frozen_model: SummaryLvlm) -> None:
    text = answers(frozen_model, tokenize(frozen_model, [DIALOGUE]))
    assert [turn.answer in text for turn in DIALOGUE] == [True] * 3
    assert "colour" not in text


def test_a_long_conversation_loses_its_last_turns_and_a_longer_one_is_left_out(
    frozen_model: SummaryLvlm,
) -> None:
    model = frozen_model
    whole = tokenize(model, [DIALOGUE])
    two = tokenize(model, [DIALOGUE[:2]])
    # Of a conversation's tokens the last is not read, and K stand where one placeholder was.
    room = len(two.ids) + 1 + model.config.token_count - 1
    cut = tokenize(model, [DIALOGUE], room)
    assert cut.ids == two.ids
    assert cut.labels == two.labels
    assert cut.positions == two.positions
    assert (cut.truncated, cut.left_out) == (1, 0)
    assert (whole.truncated, whole.left_out) == (0, 0)
    one = tokenize(model, [DIALOGUE[:1]])
    assert tokenize(model, [DIALOGUE], room - 1).ids == one.ids
    none = tokenize(model, [DIALOGUE], 12)
    assert none.ids == []
    assert (none.truncated, none.left_out) == (0, 1)
    long = (QA("What is it?", "word " * 2000, "any"),)
    both = tokenize(model, [long, DIALOGUE])
    assert (both.ids, both.left_out) == (
        whole.ids,
        1,
    )  # the model's own context is a limit too


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_rows_are_no_longer_than_the_longest_and_hold_all(some: list[int]) -> None:
    rows = assign_rows(some)
    placed = [number for row in rows for number in row]
    assert sorted(placed) == list(range(len(some)))
    for row in rows:
        length = sum(some[number] for number in row)
        assert length <= max(some)


@pytest.mark.parametrize("seed", range(5))
def test_little_is_padding(frozen_model: SummaryLvlm, seed: int) -> None:
    """Sixteen images with one to eight questions; answers of 1 to 60 words, most of them short."""
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
    shared = draw(st.integers(1, 5))
    lengths = draw(st.lists(st.integers(1, 4), max_size=4))
    padding = draw(st.integers(0, 4))
    row = [0] * shared
    for number, length in enumerate(lengths, start=1):
        row += [number] * length
    return row + [-1] * padding


@given(segment_rows())
@settings(max_examples=60)
def test_a_token_sees_what_it_would_see_alone_and_nothing_else(row: list[int]) -> None:
    segments = torch.tensor([row])
    owners = torch.where(segments < 0, -1, 3)
    mask = block_diagonal_mask(owners, segments)[0, 0]
    assert mask.shape == (len(row), len(row))
    for query, own in enumerate(row):
        seen = mask[query].nonzero().flatten().tolist()
        assert query in seen  # or its softmax would have nothing to go by
        if own >= 0:
            assert seen == [key for key in range(query + 1) if row[key] in (0, own)]


def test_images_in_one_row_do_not_see_each_other() -> None:
    owners = torch.tensor([[0, 0, 0, 5, 5, -1]])
    segments = torch.tensor([[0, 1, 2, 0, 1, -1]])
    mask = block_diagonal_mask(owners, segments)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
