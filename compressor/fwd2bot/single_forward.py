"""Single forward: summary tokens are read by their states in every layer, within one sequence.

What Fwd2Bot's double forward (arXiv 2503.21757) is compared with; VoCo-LLaMA (arXiv 2406.12275)
compresses so. One sequence holds the image, the summary prompt, the summary tokens and the
conversation, and a mask hides from the conversation all that stands before the summary tokens.
What it still reads of the image are the keys and values of K positions in each layer. Kept apart
from the sequence, as in a cache of keys and values, they are the summary tokens: (K, S) instead of
(K, D), where S = 2 · layers · key-value heads · size of a head.
Shapes: B images, K summary tokens, T text tokens, H key-value heads, h size of a head.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from compressor.errors import BaselineUnavailable
from compressor.fwd2bot.prompts import Prompt


def counted_from_end(prompt: Prompt) -> Prompt:
    """The prompt with its last token at position −1.

    Whatever follows then starts at position 0, however long the prompt was, and the states of its
    tokens can be kept without it. Rotary positions are relative, so the states fit as before.
    """
    last = prompt.position_ids[..., -1:]
    return replace(prompt, position_ids=prompt.position_ids - last - 1)


def states_size(config: PreTrainedConfig) -> int:
    """S: numbers of a summary token's states in all layers of this language model."""
    head_size = getattr(config, "head_dim", None)
    head_size = head_size or config.hidden_size // config.num_attention_heads
    return 2 * int(config.num_hidden_layers * config.num_key_value_heads * head_size)


def last_states(cache: Cache, count: int) -> Tensor:
    """(B, count, S) float32: keys and values of the last positions in a cache, layer by layer.

    Raises BaselineUnavailable for layers without keys and values (linear attention).
    """
    parts = []
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer):
            raise BaselineUnavailable(
                f"{type(layer).__name__} keeps no keys and values for single forward"
            )
        for states in (layer.keys, layer.values):
            assert states is not None, "the cache has been filled"
            # (B, H, T, h) → (B, count, H · h)
            parts.append(states[:, :, -count:].transpose(1, 2).flatten(2))
    return torch.cat(parts, dim=-1).float()


def cache_of(
    states: Tensor, config: PreTrainedConfig, dtype: torch.dtype
) -> DynamicCache:
    """A cache in which K positions with (B, K, S) states have been read; `last_states` undone."""
    heads = config.num_key_value_heads
    parts = states.to(dtype).chunk(2 * config.num_hidden_layers, dim=-1)
    # (B, K, H · h) → (B, H, K, h)
    shaped = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts]
    pairs = zip(shaped[::2], shaped[1::2], strict=True)
    return DynamicCache(list(pairs), config=config)


def behind(states: Tensor, prompt: Prompt) -> Prompt:
    """The prompt as it reads (B, K, S) states that stand before it."""
    mask = prompt.attention_mask
    seen = mask.new_ones(states.shape[:2])
    return replace(
        prompt, attention_mask=torch.cat([seen, mask], dim=1), states_before=states
    )
