"""Sequence packing with a shared prefix: questions of an image share its prompt.

An image's prompt up to where its questions differ (the image within) is read once; each question
follows at the positions it would have alone, and a block-diagonal mask separates questions and
images, so the result equals separate sequences. Images share a row as long as it is no longer than
the longest of them, so that little is padding.
Shapes: B images, R rows, T tokens of the longest, K summary tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.config import TrainConfig
from compressor.training.sample import QA

NO_LABEL = -100  # what PyTorch's cross entropy ignores by default


@dataclass(frozen=True)
class TokenizedImage:
    """The questions and answers about one image, its one placeholder not yet replaced."""

    ids: list[int]
    segments: list[int]  # 0 what all questions share, 1.. a question
    positions: list[int]
    labels: list[int]  # the next token where an answer is predicted, NO_LABEL elsewhere

    @property
    def answer_tokens(self) -> int:
        """How many tokens are predicted."""
        return len(self.labels) - self.labels.count(NO_LABEL)


@dataclass(frozen=True)
class PackedBatch:
    """A batch for the second pass."""

    inputs_embeds: Tensor  # (R, T, D)
    attention_mask: Tensor  # (R, 1, T, T) added to the attention scores
    position_ids: Tensor  # (R, T)
    labels: Tensor  # (R, T) next token where an answer is predicted, NO_LABEL elsewhere
    padding: float  # share of the R·T places that hold nothing

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The language model's keyword arguments."""
        return {
            "inputs_embeds": self.inputs_embeds,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }


@dataclass(frozen=True)
class _EmbeddedImage:
    """A tokenized image with its vectors in place of the placeholder."""

    embeddings: Tensor  # (T, D)
    segments: list[int]
    positions: list[int]
    labels: list[int]


def pack(
    model: SummaryLvlm, vectors: Sequence[Tensor], tokenized: Sequence[TokenizedImage]
) -> PackedBatch:
    """Packs B images' (K, D) vectors with their questions."""
    images = [_embed(model, *pair) for pair in zip(vectors, tokenized, strict=True)]
    lengths = [len(image.labels) for image in images]
    rows = assign_rows(lengths)
    longest = max(lengths)
    like = images[0].embeddings
    shape = (len(rows), longest)
    embeddings = like.new_zeros(*shape, like.shape[-1])
    owners = torch.full(shape, -1)
    segments = torch.full(shape, -1)
    positions = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, NO_LABEL)
    for row, numbers in enumerate(rows):
        end = 0
        for number in numbers:
            image = images[number]
            start, end = end, end + lengths[number]
            embeddings[row, start:end] = image.embeddings
            owners[row, start:end] = number
            segments[row, start:end] = torch.tensor(image.segments)
            positions[row, start:end] = torch.tensor(image.positions)
            labels[row, start:end] = torch.tensor(image.labels)
    padding = float((owners < 0).float().mean())
    mask = block_diagonal_mask(owners, segments).to(like)
    return PackedBatch(embeddings, mask, positions.to(like.device), labels.to(like.device), padding)


def assign_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Which images stand in each row, none longer than the longest image: first fit decreasing."""
    longest = max(lengths)
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        fitting = (row for row, left in enumerate(room) if left >= lengths[number])
        row = next(fitting, len(rows))
        if row == len(rows):
            rows.append([])
            room.append(longest)
        rows[row].append(number)
        room[row] -= lengths[number]
    return rows


def block_diagonal_mask(owners: Tensor, segments: Tensor) -> Tensor:
    """(R, T) image of each token (-1 padding), its segment → (R, 1, T, T) additive mask."""
    length = segments.shape[1]
    same_image = owners.unsqueeze(2) == owners.unsqueeze(1)
    query_segment, key_segment = segments.unsqueeze(2), segments.unsqueeze(1)
    same_segment = (key_segment == 0) | (key_segment == query_segment)
    causal = torch.ones(length, length, dtype=torch.bool, device=owners.device).tril()
    visible = causal & same_image & same_segment
    return torch.where(visible, 0.0, torch.finfo(torch.float32).min).unsqueeze(1)


def tokenize(model: SummaryLvlm, questions: Sequence[QA]) -> TokenizedImage:
    """Token ids of an image's questions and answers behind the prompt that they share."""
    prompts = [model.prompt_ids(1, [("user", qa.question)]) for qa in questions]
    answers = [answer_ids(model, qa.answer) for qa in questions]
    shared = _common_prefix(prompts)
    ids = list(prompts[0][:shared])
    segments, labels = [0] * shared, [NO_LABEL] * shared
    positions = list(range(shared))
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), start=1):
        # The last token of an answer is predicted, never read.
        tail = [*prompt[shared:], *answer[:-1]]
        ids += tail
        segments += [number] * len(tail)
        positions += range(shared, shared + len(tail))
        labels += [NO_LABEL] * (len(tail) - len(answer)) + answer
    return TokenizedImage(ids, segments, positions, labels)


def answer_ids(model: SummaryLvlm, answer: str) -> list[int]:
    """Token ids of an answer and the end of the turn."""
    text = f" {answer}" if model.prompt_ends_open() else answer
    return [*model.tokenizer(text, add_special_tokens=False)["input_ids"], model.end_ids[0]]


def _embed(model: SummaryLvlm, vectors: Tensor, image: TokenizedImage) -> _EmbeddedImage:
    """Puts an image's vectors in the place of its placeholder, which is in the shared prefix."""
    embedded = model.with_images(image.ids, [vectors])
    grown = len(embedded) - len(image.ids)
    place = image.ids.index(model.image_token_id)
    prefix = image.segments.count(0)
    shifted = [position + grown for position in image.positions[prefix:]]
    return _EmbeddedImage(
        embedded,
        segments=[0] * grown + image.segments,
        positions=[*range(prefix + grown), *shifted],
        labels=[*image.labels[:place], *[NO_LABEL] * grown, *image.labels[place:]],
    )


def _common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts share; each keeps at least one, since each is a question."""
    longest = min(len(prompt) for prompt in prompts) - 1
    for place in range(longest):
        if len({prompt[place] for prompt in prompts}) > 1:
            return place
    return longest


def nested_budgets(config: TrainConfig, token_count: int) -> tuple[int, ...]:
    """The budgets that a run trains, K = `token_count` among them; empty where the recipe has none.

    Raises RecipeInvalid where a budget is larger than K.
    """
    if not config.budgets:
        return ()
    largest = config.budgets[-1]
    if largest > token_count:
        raise RecipeInvalid(
            f"a budget of {largest} is more than the model's {token_count} summary tokens"
        )
    return tuple(sorted({*config.budgets, token_count}))


def draw_budgets(tokens: Tensor, budgets: Sequence[int]) -> list[Tensor]:
    """(B, K, D) → of each image the first m tokens (m, D), m a budget drawn with equal chances.

    Without budgets all K, and nothing is drawn.

    Matryoshka representations (arXiv 2205.13147, equation 1; of visual tokens: M3, arXiv
    2405.17430) sum the losses of all nested sizes. A draw for each image has the same mean at the
    cost of one size. It comes from PyTorch's CPU generator, whose state is in every checkpoint.
    """
    if not budgets:
        return list(tokens)
    picks = torch.randint(len(budgets), (len(tokens),)).tolist()
    return [row[: budgets[pick]] for row, pick in zip(tokens, picks, strict=True)]
