"""Sequence packing with a shared prefix: conversations about the same images share a prompt.

A sample's prompt up to where its conversations differ (its images within) is read once; each
conversation follows at the positions it would have alone, and a block-diagonal mask separates
conversations and samples, so the result equals separate sequences. Samples share a row as long as
it is no longer than the longest of them, so that little is padding.
Shapes: B samples, R rows, T tokens of the longest, m vectors of an image, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from compressor.errors import ConversationInvalid, DataInvalid, RecipeInvalid
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.single_forward import cache_of
from compressor.training.config import TrainConfig
from compressor.training.sample import QA

NO_LABEL = -100  # what PyTorch's cross entropy ignores by default


@dataclass(frozen=True)
class TokenizedSample:
    """The conversations of one sample; each of its images is one placeholder yet."""

    ids: list[int]  # empty where no conversation fits the context
    segments: list[int]  # 0 what all conversations share, 1.. a conversation
    positions: list[int]
    labels: list[int]  # the next token where an answer is predicted, NO_LABEL elsewhere
    truncated: int = 0  # conversations that lost turns to the context
    left_out: int = (
        0  # conversations that fit neither the context nor the chat template
    )

    @property
    def answer_tokens(self) -> int:
        """How many tokens are predicted."""
        return len(self.labels) - self.labels.count(NO_LABEL)

    def table(self, owner: int) -> Tensor:
        """(T, 5) whole numbers: id, segment, position, label, and the sample's own number."""
        owners = [owner] * len(self.ids)
        columns = [self.ids, self.segments, self.positions, self.labels, owners]
        return torch.tensor(columns).T


@dataclass(frozen=True)
class PackedBatch:
    """A batch for the second pass, on the model's device."""

    inputs_embeds: Tensor  # (R, T, D)
    attention_mask: Tensor  # (R, 1, T, T) true where a token is seen, or additive
    position_ids: Tensor  # (R, T)
    labels: Tensor  # (R, T) next token where an answer is predicted, NO_LABEL elsewhere
    owners: Tensor  # (R, T) number of the sample that a token belongs to, -1 padding
    tokens: int  # of the R·T places those that hold something
    # Of the K positions that stand before each row in single forward; the attention mask is then
    # (R, 1, T, K + T). Running the batch adds to it.
    cache: Cache | None = None

    @property
    def predicts(self) -> Tensor:
        """(R, T) true where an answer is predicted."""
        return self.labels != NO_LABEL

    @property
    def sample_order(self) -> Tensor:
        """(N,) puts the N predicted tokens into the order of their samples.

        Rows are filled by length, so the same conversations behind vectors of another number may
        stand in other rows.
        """
        return self.owners[self.predicts].argsort(stable=True)

    @property
    def inputs(self) -> dict[str, Any]:
        """The language model's keyword arguments."""
        return {
            "inputs_embeds": self.inputs_embeds,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
            "past_key_values": self.cache,
        }

    @property
    def padding(self) -> float:
        """Share of the R·T places that hold nothing."""
        return 1 - self.tokens / self.labels.numel()


# Tokenization


def tokenize(
    model: SummaryLvlm,
    conversations: Sequence[Sequence[QA]],
    max_tokens: int = 0,
    image_count: int = 1,
) -> TokenizedSample:
    """Conversations about images behind the prompt that they share; every answer has labels.

    A conversation longer than the model's context, or `max_tokens`, loses its last turns; one whose
    first turn is longer is left out, as is one that the chat template does not render.
    """
    # The summary tokens take the place of a placeholder.
    grown = image_count * (model.config.token_count - 1)
    room = _context(model, max_tokens) - grown
    kept: list[_Tokens] = []
    truncated = left_out = 0
    for turns in conversations:
        fitting = _fitting(model, turns, room, image_count)
        if fitting is None:
            left_out += 1
            continue
        truncated += len(fitting.answers) < len(turns)
        kept.append(fitting)
    if not kept:
        return TokenizedSample([], [], [], [], truncated, left_out)

    shared = _common_prefix(kept)
    ids = kept[0].ids[:shared]
    segments = [0] * shared
    positions = list(range(shared))
    labels = [NO_LABEL] * shared
    for number, tokens in enumerate(kept, start=1):
        # The last token of the last answer is predicted, never read.
        end = len(tokens.ids) - 1
        ids += tokens.ids[shared:end]
        segments += [number] * (end - shared)
        # Where the conversation would stand if the sample had no other.
        positions += range(shared, end)
        labels += tokens.labels[shared:end]
    return TokenizedSample(ids, segments, positions, labels, truncated, left_out)


@dataclass(frozen=True)
class _Tokens:
    """A conversation up to the end of its last answer."""

    ids: list[int]
    answers: list[range]  # where its answers are

    @property
    def labels(self) -> list[int]:
        """The next token where it belongs to an answer, NO_LABEL elsewhere."""
        labels = [NO_LABEL] * len(self.ids)
        for answer in self.answers:
            for place in answer:
                labels[place - 1] = self.ids[place]
        return labels


def _fitting(
    model: SummaryLvlm, turns: Sequence[QA], room: int, image_count: int
) -> _Tokens | None:
    """As many whole turns as there is room for; None if not even the first has room."""
    tokens = _tokens_of(model, turns, image_count)
    while tokens is not None and len(tokens.ids) > room:
        fitting = [answer for answer in tokens.answers if answer.stop <= room]
        count = min(len(fitting), len(tokens.answers) - 1)
        # Tokenized again: many templates close a conversation's last answer otherwise than others.
        tokens = _tokens_of(model, turns[:count], image_count) if count else None
    return tokens


def _tokens_of(
    model: SummaryLvlm, turns: Sequence[QA], image_count: int
) -> _Tokens | None:
    """A conversation as the chat template has it; None if the template does not render it."""
    texts = []
    for turn in turns:
        texts += [("user", turn.question), ("assistant", turn.answer)]
    try:
        conversation = model.conversation(image_count, texts)
    except ConversationInvalid:
        return None
    return _Tokens(list(conversation.ids), list(conversation.answers))


def _context(model: SummaryLvlm, max_tokens: int) -> int:
    return min(model.context_tokens, max_tokens or model.context_tokens)


def _common_prefix(conversations: Sequence[_Tokens]) -> int:
    """How many tokens all conversations share, before any of their answers is predicted.

    The position that predicts an answer's first token has a label of its own in each conversation.
    """
    longest = min(tokens.answers[0].start for tokens in conversations) - 1
    for place in range(longest):
        different = {tokens.ids[place] for tokens in conversations}
        if len(different) > 1:
            return place
    return longest


# Packing


def pack(
    model: SummaryLvlm,
    vectors: Sequence[Sequence[Tensor]],
    tokenized: Sequence[TokenizedSample],
) -> PackedBatch:
    """Packs B samples' conversations, each behind the (m, D) vectors of each of its images."""
    samples = []
    for rows, sample in zip(vectors, tokenized, strict=True):
        counts = [len(row) for row in rows]
        samples.append(_make_room(sample, model.image_token_id, counts))
    lengths = [len(sample.ids) for sample in samples]
    rows_of_samples = assign_rows(lengths)

    ids, segments, positions, labels, owners = _table(model, samples, rows_of_samples)
    embeddings = model.embedding(ids)
    # `masked_scatter` fills the placeholders' places row by row, so the vectors stand in the order
    # of the rows.
    order = [number for numbers in rows_of_samples for number in numbers]
    ordered = torch.cat([row for number in order for row in vectors[number]])
    is_vector = (ids == model.image_token_id) & (owners >= 0)
    embeddings = embeddings.masked_scatter(
        is_vector.unsqueeze(-1), ordered.to(embeddings.dtype)
    )

    mask = _for_attention(
        model, block_diagonal_mask(owners, segments), embeddings.dtype
    )
    return PackedBatch(embeddings, mask, positions, labels, owners, tokens=sum(lengths))


def pack_behind_states(
    model: SummaryLvlm,
    states: Sequence[Sequence[Tensor]],
    tokenized: Sequence[TokenizedSample],
) -> PackedBatch:
    """Puts the conversations of B samples behind the (K, S) states of the one image of each.

    Single forward: the states take the placeholder's part, and the text begins at position 0. A
    sample is a row. Raises DataInvalid for a sample of several images.
    """
    if any(len(own) > 1 for own in states):
        raise DataInvalid("single forward is trained on samples of one image")
    samples = []
    for sample in tokenized:
        samples.append(_make_room(sample, model.image_token_id, [0]))
    rows = [[number] for number in range(len(samples))]
    ids, segments, positions, labels, owners = _table(model, samples, rows)
    embeddings = model.embedding(ids)
    together = torch.stack([own[0] for own in states])
    within = block_diagonal_mask(owners, segments)
    before = within.new_ones(*within.shape[:3], together.shape[1])
    mask = _for_attention(model, torch.cat([before, within], -1), embeddings.dtype)
    cache = cache_of(together, model.base.config.get_text_config(), embeddings.dtype)
    tokens = sum(len(sample.ids) for sample in samples)
    return PackedBatch(embeddings, mask, positions, labels, owners, tokens, cache)


def _for_attention(model: SummaryLvlm, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of booleans, true where a token is seen, as the model's attention takes it."""
    attention = model.base.config.get_text_config()._attn_implementation
    # Only SDPA takes booleans; other implementations add the mask to the scores.
    if attention == "sdpa":
        return mask
    lowest = torch.finfo(dtype).min
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, lowest)


def _table(
    model: SummaryLvlm,
    samples: Sequence[TokenizedSample],
    rows_of_samples: Sequence[Sequence[int]],
) -> tuple[Tensor, ...]:
    """Ids, segments, positions, labels and owners of each place, (R, T) on the model's device."""
    longest = max(len(sample.ids) for sample in samples)
    # One table of whole numbers, filled on the CPU and copied to the device at once.
    padding = torch.tensor([0, -1, 0, NO_LABEL, -1])
    table = padding.repeat(len(rows_of_samples), longest, 1)
    for row, numbers in enumerate(rows_of_samples):
        start = 0
        for number in numbers:
            block = samples[number].table(owner=number)
            table[row, start : start + len(block)] = block
            start += len(block)
    return table.to(model.device).unbind(-1)


def _make_room(
    sample: TokenizedSample, placeholder_id: int, counts: Sequence[int]
) -> TokenizedSample:
    """The placeholder of each image, in the shared prefix, becomes as many as `counts` says."""
    left = list(counts)
    shared = sample.segments.count(0)
    prefix: list[int] = []
    for token in sample.ids[:shared]:
        prefix += [token] * (left.pop(0) if token == placeholder_id else 1)
    grown = len(prefix) - shared
    # The conversations move by what the prefix has grown.
    shifted = [position + grown for position in sample.positions[shared:]]
    return TokenizedSample(
        ids=prefix + sample.ids[shared:],
        segments=[0] * len(prefix) + sample.segments[shared:],
        positions=list(range(len(prefix))) + shifted,
        labels=[NO_LABEL] * len(prefix) + sample.labels[shared:],
    )


def assign_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Which samples stand in each row, none longer than the longest: first fit decreasing."""
    longest = max(lengths)
    rows: list[list[int]] = []
    room: list[int] = []
    longest_first = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    for number in longest_first:
        length = lengths[number]
        fitting = [row for row, left in enumerate(room) if left >= length]
        if not fitting:
            rows.append([])
            room.append(longest)
        row = fitting[0] if fitting else len(rows) - 1
        rows[row].append(number)
        room[row] -= length
    return rows


def block_diagonal_mask(owners: Tensor, segments: Tensor) -> Tensor:
    """(R, T) sample of each token (-1 padding), its segment → (R, 1, T, T) true where it is seen.

    On the device of its arguments. Padding sees padding, or its softmax would be over nothing.
    """
    length = segments.shape[1]
    same_sample = owners.unsqueeze(2) == owners.unsqueeze(1)
    queries = segments.unsqueeze(2)
    keys = segments.unsqueeze(1)
    # Segment 0 is the prefix that all conversations of a sample share.
    same_segment = (keys == 0) | (keys == queries)
    causal = torch.ones(length, length, dtype=torch.bool, device=owners.device).tril()
    return (causal & same_sample & same_segment).unsqueeze(1)


# Nested budgets


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
    picks = torch.randint(len(budgets), (len(tokens),))
    drawn = []
    for row, pick in zip(tokens, picks.tolist(), strict=True):
        drawn.append(row[: budgets[pick]])
    return drawn
