"""What summary tokens are measured against: other ways to give the second pass an image.

Shapes: B images, V visual tokens, K summary tokens, D hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from compressor.errors import BaselineUnavailable
from compressor.fwd2bot.decoding import Decoding
from compressor.fwd2bot.model import ImageInputs, SummaryLvlm

SUMMARY_TOKENS = "summary tokens"  # what the baselines are measured against
_MAX_DISTORTION = 2.0  # of a downsampled image's aspect ratio


class Baseline(StrEnum):
    """The name of a baseline, as recipes and `precis eval` have it."""

    ALL_VISUAL_TOKENS = "all visual tokens"
    MEAN_POOLING = "mean pooling"
    MEAN_POOLED_STATES = "mean pooling of hidden states"
    DOWNSAMPLED_IMAGE = "downsampled image"
    WORDS_AS_TEXT = "words as text"


def all_visual_tokens(
    model: SummaryLvlm, images: Sequence[Image.Image] | ImageInputs
) -> list[Tensor]:
    """(V, D) of each image: the uncompressed ceiling.

    Raises BaselineUnavailable where the model sees more of an image than vectors in a row, and
    ImageRefused.
    """
    own = model.image_spans(images)
    vectors = model.vectors_of(own)
    if own.prompt.position_ids.ndim > 2:
        raise BaselineUnavailable(
            f"{type(model.base).__name__} gives visual tokens positions along several axes, which"
            " vectors in the place of summary tokens do not have; use uncompressed_prompt"
        )
    return vectors


def mean_pooling(model: SummaryLvlm, images: Sequence[Image.Image]) -> list[Tensor]:
    """(K, D) of each image: means of K runs of neighbouring visual tokens."""
    count = model.config.token_count
    vectors = model.visual_vectors(images)
    return [pool(rows, count) for rows in vectors]


def mean_pooled_states(
    model: SummaryLvlm, images: Sequence[Image.Image]
) -> list[Tensor]:
    """(K, D) of each image: means of K runs of last hidden states at the visual tokens.

    The states are those of the first pass. On text, this way beats learnt compression tokens
    (arXiv 2510.20797).
    """
    count = model.config.token_count
    own = model.image_spans(images)
    # Causal attention: what stands behind the image in the prompt does not change its states.
    with model.adapters.use("first_pass"):
        outputs = model.decoder(**own.prompt.inputs, use_cache=False)
    states = own.rows(outputs.last_hidden_state)
    return [pool(rows, count) for rows in states]


def downsampled_image(
    model: SummaryLvlm, images: Sequence[Image.Image]
) -> list[Tensor]:
    """(K, D) of each image, resized so that the model itself makes about K visual tokens of it.

    They are pooled only where their number is not K. A model with a grid of one size (LLaVA-1.5:
    576 tokens whatever the image) scales the small image up again: it sees as little of it, and its
    visual tokens are pooled to K. Plain downsampling beats many methods (arXiv 2510.07143).
    """
    count = model.config.token_count
    options = _any_small_size(model)
    small = []
    for image in images:
        columns: float = count**0.5
        rows: float = columns
        # A fixed grid crops or squeezes what is not square; others keep the image's shape.
        if options:
            aspect = image.width / image.height
            columns, rows = grid(count, aspect)
        width_px = round(columns * model.patch_px)
        height_px = round(rows * model.patch_px)
        small.append(image.resize((width_px, height_px), Image.Resampling.BOX))
    vectors = model.visual_vectors(small, **options)
    return [own if len(own) == count else pool(own, count) for own in vectors]


def words_as_text(model: SummaryLvlm, images: Sequence[Image.Image]) -> list[Tensor]:
    """(K, D) of each image: the K tokens that the model itself writes as its summary, greedily."""
    prompt = model.summary_prompt(images)
    # A summary that ended early would have fewer than K tokens.
    forbidden = torch.tensor(
        [*model.end_ids, model.image_token_id], device=model.device
    )
    decoding = Decoding(model.decoder, prompt)
    words: list[Tensor] = []
    word = None
    # The base model where it is still on its own: the adapters learnt to write other things.
    with model.adapters.use(None):
        while len(words) < model.config.token_count:
            outputs = decoding.step(word)
            last = outputs.last_hidden_state[:, -1]
            logits = model.output_head(last).index_fill(1, forbidden, -math.inf)
            ids = logits.argmax(-1, keepdim=True)
            word = model.embedding(ids)
            words.append(word)
    embeddings = torch.cat(words, dim=1)
    return list(embeddings)


VisualInput = Callable[[SummaryLvlm, Sequence[Image.Image]], list[Tensor]]
BASELINES: Mapping[Baseline, VisualInput] = {
    Baseline.ALL_VISUAL_TOKENS: all_visual_tokens,
    Baseline.MEAN_POOLING: mean_pooling,
    Baseline.MEAN_POOLED_STATES: mean_pooled_states,
    Baseline.DOWNSAMPLED_IMAGE: downsampled_image,
    Baseline.WORDS_AS_TEXT: words_as_text,
}


def pool(vectors: Tensor, count: int) -> Tensor:
    """(V, D) → (count, D): means of `count` runs of neighbours, in order."""
    channels_first = vectors.T.unsqueeze(0)
    # Adaptive, because V need not be a multiple of K: runs then overlap by one, none is left out.
    pooled = torch.nn.functional.adaptive_avg_pool1d(channels_first, count)
    return pooled[0].T


def grid(count: int, aspect: float) -> tuple[int, int]:
    """Columns and rows of at most `count` cells: as many as fit a shape near to width : height."""
    best, best_rank = (1, 1), (0, 0.0)
    for rows in range(1, count + 1):
        columns = count // rows
        shape = columns / rows
        distortion = max(shape / aspect, aspect / shape)
        # All cells of an extreme shape are worth less than a few fewer of the image's own.
        cells = columns * rows if distortion <= _MAX_DISTORTION else 0
        rank = (cells, -distortion)
        if best_rank == (0, 0.0) or rank > best_rank:
            best, best_rank = (columns, rows), rank
    return best


def _any_small_size(model: SummaryLvlm) -> dict[str, Any]:
    """Options that let an image processor of any resolution take an image as small as a token.

    None for a processor that has a grid of its own.
    """
    size = model.processor.image_processor.size
    shortest = getattr(size, "shortest_edge", None)
    longest = getattr(size, "longest_edge", None)
    # Qwen's processors keep an image's pixels between these two.
    if not (shortest and longest):
        return {}
    return {"size": {"shortest_edge": model.patch_px**2, "longest_edge": longest}}
