"""Fits the retrieval head alone, to hidden states of a finished first pass.

The states are computed once. Every batch then holds hundreds of negatives, which the double-forward
step cannot afford: its batch is as large as two passes of the language model allow.
Shapes: N images, M texts, K summary positions, C channels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.errors import DataInvalid
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.retrieval_head import RetrievalHead, TextStates
from compressor.text import normalise_text
from compressor.training.datasets import Entry
from compressor.training.negative_queue import caption_keys
from compressor.training.step import info_nce

IMAGE_BATCH = 16
TEXT_BATCH = 64
Tracked = Callable[[Sequence[int]], Iterable[int]]  # shows how far a long loop has come


@dataclass(frozen=True)
class HeadFit:
    """Settings of a fit by contrast."""

    steps: int = 600
    batch_size: int = 512  # pairs; all images where there are fewer
    learning_rate: float = 1e-3
    dropout: float = 0.5  # of the channels that a projection reads
    weight_decay: float = 0.1
    query_share: float = 0.3  # of the texts, for an image that has queries
    seed: int = 1


@dataclass(frozen=True)
class States:
    """What the finished first pass says of images and of the texts about them."""

    images: Tensor  # (N, K, C)
    tokens: Tensor  # (N, K, D) summary tokens
    texts: Tensor  # (M, C)
    words: Sequence[
        Tensor
    ]  # M times the ids of a text's tokens; embeddings are many times larger
    keys: Tensor  # (M,) equal where texts are equal
    captions: Sequence[Sequence[int]]  # N times the rows of an image's captions
    queries: Sequence[Sequence[int]]  # N times the rows of its queries


def captioned(entries: Iterable[Entry]) -> list[Entry]:
    """Those that have a caption or a query. Raises DataInvalid where none differ."""
    kept = [entry for entry in entries if entry.captions or entry.queries]
    distinct = {
        normalise_text(text)
        for entry in kept
        for text in (*entry.captions, *entry.queries)
    }
    if len(kept) < 2 or len(distinct) < 2:
        raise DataInvalid(
            f"{len(kept)} images with {len(distinct)} texts: a contrast needs two of each"
        )
    return kept


@torch.inference_mode()
def first_pass_states(
    model: SummaryLvlm, entries: Sequence[Entry], track: Tracked = iter
) -> States:
    """States of the entries' images, and of each of their texts once. Raises DataInvalid."""
    images, tokens = [], []
    for start in track(range(0, len(entries), IMAGE_BATCH)):
        batch = entries[start : start + IMAGE_BATCH]
        pictures = [image for entry in batch for image in entry.open()]
        first = model.first_pass(model.first_pass_inputs(pictures))
        assert first.hidden_states is not None, "only a baseline has none"
        images.append(first.hidden_states.cpu())
        tokens.append(first.tokens.cpu())
    rows: dict[str, int] = {}

    def rows_of(texts: Sequence[str]) -> list[int]:
        plain = [normalise_text(text) for text in texts]
        return [rows.setdefault(text, len(rows)) for text in plain]

    captions = [rows_of(entry.captions) for entry in entries]
    queries = [rows_of(entry.queries) for entry in entries]
    texts = list(rows)
    # Copies: tensors made in inference mode cannot take part in training.
    return States(
        torch.cat(images).clone(),
        torch.cat(tokens).clone(),
        *_text_states(model, texts, track),
        caption_keys(texts).clone(),
        captions,
        queries,
    )


def _text_states(
    model: SummaryLvlm, texts: Sequence[str], track: Tracked
) -> tuple[Tensor, list[Tensor]]:
    # Texts of about one length share a batch, which leaves little padding.
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    states: Tensor | None = None
    words: dict[int, Tensor] = {}
    for start in track(range(0, len(order), TEXT_BATCH)):
        batch = order[start : start + TEXT_BATCH]
        chosen = [texts[number] for number in batch]
        computed = model.text_states(chosen).hidden.cpu()
        tokens = model.text_words(chosen)
        for number, ids, counted in zip(
            batch, tokens.ids.cpu(), tokens.counted.cpu(), strict=True
        ):
            words[number] = ids[counted > 0].clone()
        if states is None:
            states = torch.empty(len(texts), computed.shape[-1])
        states[batch] = computed
    assert states is not None, "an entry has a caption"
    return states.clone(), [words[number] for number in range(len(texts))]


def fit(
    head: RetrievalHead,
    states: States,
    vocabulary: Tensor,
    config: HeadFit = HeadFit(),
) -> float:
    """Trains the head anew; takes the channels' statistics first.

    What double-forward steps taught it is forgotten: with their few negatives they lead where a fit
    ends with a higher loss than from the start.

    `vocabulary` is the (W, D) input embedding matrix.
    Symmetric InfoNCE (Fwd2Bot, section 3) with the head's inputs fixed. Returns the mean loss of
    the last tenth of the steps.
    """
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)  # of the start and the dropout
    head.reset()
    head.fit_statistics(states.images, states.texts)
    device = head.image_mean.device
    parameters = list(head.parameters())
    optimizer = torch.optim.AdamW(
        _groups(parameters, config.weight_decay), lr=config.learning_rate
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    losses = []
    for _ in range(config.steps):
        order = torch.randperm(len(states.images), generator=generator)
        images = order[: config.batch_size]
        rows = torch.tensor(
            [_text_of(states, int(image), config, generator) for image in images]
        )
        keys = states.keys[rows]
        # The states of a large data set may not fit on a card beside the model.
        loss = info_nce(
            head.embed_image(
                states.images[images].to(device),
                states.tokens[images].to(device),
                config.dropout,
            ),
            head.embed_text(_read(states, rows, vocabulary), config.dropout),
            head.logit_scale,
            same=(keys.unsqueeze(0) == keys.unsqueeze(1)).to(device),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    last = losses[-max(1, config.steps // 10) :]
    return sum(last) / len(last)


def _read(states: States, rows: Tensor, vocabulary: Tensor) -> TextStates:
    """What the head reads of these texts, on the vocabulary's device."""
    words = [states.words[int(row)] for row in rows]
    ids = nn.utils.rnn.pad_sequence(words, batch_first=True).to(vocabulary.device)
    lengths = torch.tensor([len(each) for each in words], device=vocabulary.device)
    counted = torch.arange(ids.shape[1], device=ids.device) < lengths.unsqueeze(1)
    hidden = states.texts[rows].to(vocabulary.device)
    return TextStates(hidden, vocabulary[ids].float(), counted.float())


def _text_of(
    states: States, image: int, config: HeadFit, generator: torch.Generator
) -> int:
    """The row of a caption or a query of the image, drawn at random."""
    texts = states.captions[image]
    draw = float(torch.rand((), generator=generator))
    if states.queries[image] and (draw < config.query_share or not texts):
        texts = states.queries[image]
    return texts[int(torch.randint(len(texts), (), generator=generator))]


def _groups(
    parameters: Sequence[nn.Parameter], weight_decay: float
) -> list[dict[str, object]]:
    # A decayed temperature or bias would be pulled to a value that means something.
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
