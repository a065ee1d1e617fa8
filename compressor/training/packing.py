"""Several questions about one image side by side in one sequence, and several images in one row,
none seeing another.

Knows nothing of losses. An image's prompt up to where its questions differ (the image within) is
read once; each question follows with the positions it would have alone, so the result equals
separate sequences. Images share a row as long as it is no longer than the longest of them: little
is padding. Shapes: B images, R rows, T tokens of the longest, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.config import Recipe


@dataclass(frozen=True)
class Packed:
    """A batch for the second pass."""

    embeddings: Tensor  # (R, T, D)
    mask: Tensor  # (R, 1, T, T) added to the attention scores
    positions: Tensor  # (R, T)
    labels: Tensor  # (R, T) next token where an answer is predicted, -100 elsewhere
    padding: float  # share of the R·T places that hold nothing


@dataclass(frozen=True)
class _Image:
    """One image with its questions."""

    embeddings: Tensor  # (T, D)
    segments: list[int]  # 0 what all questions share, 1.. a question
    positions: list[int]
    labels: list[int]


def pack(
    model: SummaryLvlm, images: Sequence[Tensor], asked: Sequence[Sequence[tuple[str, str]]]
) -> Packed:
    """Packs B images' (K, D) vectors with their (question, answer) pairs."""
    found = [_image(model, vectors, pairs) for vectors, pairs in zip(images, asked, strict=True)]
    rows = in_rows([len(each.labels) for each in found])
    longest = max(sum(len(found[number].labels) for number in row) for row in rows)
    like = found[0].embeddings
    embeddings = like.new_zeros(len(rows), longest, like.shape[-1])
    owners, segments = (torch.full((len(rows), longest), -1) for _ in range(2))
    positions = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    for row, numbers in enumerate(rows):
        end = 0
        for number in numbers:
            image, start = found[number], end
            end = start + len(image.labels)
            embeddings[row, start:end] = image.embeddings
            owners[row, start:end] = number
            segments[row, start:end] = torch.tensor(image.segments)
            positions[row, start:end] = torch.tensor(image.positions)
            labels[row, start:end] = torch.tensor(image.labels)
    padding = float((owners < 0).float().mean())
    mask = visible(owners, segments).to(like)
    return Packed(embeddings, mask, positions.to(like.device), labels.to(like.device), padding)


def in_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Which of the lengths stand in each row, none longer than the longest of them: first fit,
    longest first.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda each: (-lengths[each], each)):
        row = next((row for row, left in enumerate(room) if left >= lengths[number]), None)
        if row is None:
            rows.append([])
            room.append(max(lengths))
            row = len(rows) - 1
        rows[row].append(number)
        room[row] -= lengths[number]
    return rows


def visible(owners: Tensor, segments: Tensor) -> Tensor:
    """(R, T) image of each token (-1 padding), its segment (0 shared, 1.. a question) → (R, 1, T,
    T) additive mask.
    """
    same_image = owners.unsqueeze(2) == owners.unsqueeze(1)
    of_query, of_key = segments.unsqueeze(2), segments.unsqueeze(1)
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril()
    seen = causal & same_image & ((of_key == 0) | (of_key == of_query))
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min).unsqueeze(1)


def answer_ids(model: SummaryLvlm, prompt_text_ends_open: bool, answer: str) -> list[int]:
    """Token ids of an answer and the end of the turn."""
    text = f" {answer}" if prompt_text_ends_open else answer
    return [*model.tokenizer(text, add_special_tokens=False)["input_ids"], model.end_id]


def _image(model: SummaryLvlm, vectors: Tensor, pairs: Sequence[tuple[str, str]]) -> _Image:
    prompts = [model.prompt_ids(1, [("user", question)]) for question, _ in pairs]
    opened = model.prompt_ends_open()
    answers = [answer_ids(model, opened, answer) for _, answer in pairs]
    shared = _common_prefix(prompts)
    ids = list(prompts[0][:shared])
    segments, labels = [0] * shared, [-100] * shared
    positions = list(range(shared))
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), start=1):
        # The last token of an answer is predicted, never read.
        tail = [*prompt[shared:], *answer[:-1]]
        ids += tail
        segments += [number] * len(tail)
        positions += range(shared, shared + len(tail))
        labels += [-100] * (len(tail) - len(answer)) + answer
    embedded = model.with_images(ids, [vectors])
    grown = len(embedded) - len(
        ids
    )  # the placeholder makes room for K vectors, all in the shared part
    place = ids.index(model.image_token_id)
    segments[place:place] = [0] * grown
    labels[place:place] = [-100] * grown
    positions = [*range(shared + grown), *(position + grown for position in positions[shared:])]
    return _Image(embedded, segments, positions, labels)


def _common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Tokens that all rows share; at least one is left to each, since every question needs its own."""
    longest = min(len(row) for row in rows) - 1
    for place in range(longest):
        if len({row[place] for row in rows}) > 1:
            return place
    return longest


# Nested budgets: the first m summary tokens of an image are worth reading without the rest.
# Matryoshka representations (arXiv 2205.13147, equation 1; of visual tokens: M3, arXiv 2405.17430)
# sum the losses of all nested sizes; a draw for each image has the same mean at the cost of one
# size. Shapes: B images, K summary tokens, D hidden size.


def budgets_of(recipe: Recipe, token_count: int) -> tuple[int, ...]:
    """What is drawn from: the recipe's budgets and K itself; empty where it has none.

    Raises RecipeInvalid where a budget is larger than the `token_count` K.
    """
    if not recipe.budgets:
        return ()
    if recipe.budgets[-1] > token_count:
        raise RecipeInvalid(
            f"a budget of {recipe.budgets[-1]} is more than the model's {token_count} summary tokens"
        )
    return tuple(sorted({*recipe.budgets, token_count}))


def drawn(tokens: Tensor, budgets: tuple[int, ...]) -> list[Tensor]:
    """(B, K, D) → of each image the first m tokens (m, D), m drawn from `budgets` with equal
    chances; all if empty.

    The draw is from PyTorch's CPU generator, whose state is in every checkpoint.
    """
    if not budgets:
        return list(tokens)
    picks = torch.randint(len(budgets), (len(tokens),)).tolist()
    return [row[: budgets[pick]] for row, pick in zip(tokens, picks, strict=True)]
