"""Several questions about one image side by side in one sequence, none seeing another.

Knows nothing of losses. The prompt up to where the questions differ (the image within) is read once; each question
follows with the positions it would have alone, so the result equals separate sequences.
Shapes: B images, T tokens of the longest packed row, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.lvlm import SummaryLvlm


@dataclass(frozen=True)
class Packed:
    """A batch for the second pass."""

    embeddings: Tensor  # (B, T, D)
    mask: Tensor  # (B, 1, T, T) added to the attention scores
    positions: Tensor  # (B, T)
    labels: Tensor  # (B, T) next token where an answer is predicted, -100 elsewhere


def pack(model: SummaryLvlm, images: Sequence[Tensor], asked: Sequence[Sequence[tuple[str, str]]]) -> Packed:
    """Packs B images' (K, D) vectors with their (question, answer) pairs."""
    rows = [_row(model, vectors, pairs) for vectors, pairs in zip(images, asked, strict=True)]
    longest = max(len(labels) for _, _, _, labels in rows)
    like = rows[0][0]
    embeddings = like.new_zeros(len(rows), longest, like.shape[-1])
    segments = torch.full((len(rows), longest), -1)
    positions = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    for number, (vectors, segment, position, label) in enumerate(rows):
        embeddings[number, : len(label)] = vectors
        segments[number, : len(label)] = torch.tensor(segment)
        positions[number, : len(label)] = torch.tensor(position)
        labels[number, : len(label)] = torch.tensor(label)
    return Packed(embeddings, visible(segments).to(like), positions.to(like.device), labels.to(like.device))


def visible(segments: Tensor) -> Tensor:
    """(B, T) segment of each token (0 shared, 1.. a question, -1 padding) → (B, 1, T, T) additive mask."""
    of_query, of_key = segments.unsqueeze(2), segments.unsqueeze(1)
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril()
    seen = causal & ((of_key == 0) | (of_key == of_query))
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min).unsqueeze(1)


def answer_ids(model: SummaryLvlm, prompt_text_ends_open: bool, answer: str) -> list[int]:
    """Token ids of an answer and the end of the turn."""
    text = f" {answer}" if prompt_text_ends_open else answer
    return [*model.tokenizer(text, add_special_tokens=False)["input_ids"], model.end_id]


def _row(
    model: SummaryLvlm, vectors: Tensor, pairs: Sequence[tuple[str, str]]
) -> tuple[Tensor, list[int], list[int], list[int]]:
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
    grown = len(embedded) - len(ids)  # the placeholder makes room for K vectors, all in the shared part
    place = ids.index(model.image_token_id)
    segments[place:place] = [0] * grown
    labels[place:place] = [-100] * grown
    positions = [*range(shared + grown), *(position + grown for position in positions[shared:])]
    return embedded, segments, positions, labels


def _common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Tokens that all rows share; at least one is left to each, since every question needs its own."""
    longest = min(len(row) for row in rows) - 1
    for place in range(longest):
        if len({row[place] for row in rows}) > 1:
            return place
    return longest
