"""Decoding step by step behind a prompt: for answers, for soft words in turn, for words as text.

Shapes: B prompts, D hidden size.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig

from compressor.fwd2bot.prompts import Prompt


class Decoding:
    """Steps of the decoder over a batch of prompts and what follows them, with a cache.

    The adapter is the caller's to choose.
    """

    def __init__(self, decoder: nn.Module, prompt: Prompt) -> None:
        self._decoder = decoder
        self._prompt = prompt
        self._mask = prompt.attention_mask
        self._positions = prompt.position_ids
        self._cache = DynamicCache(config=cast(PreTrainedConfig, decoder.config))

    def step(self, embeddings: Tensor | None = None, **options: Any) -> Any:
        """The decoder's outputs for (B, 1, D) embeddings behind all earlier ones; the first step
        takes none and reads the prompt.
        """
        if embeddings is None:
            inputs = self._prompt.inputs
        else:
            mask = self._mask
            self._mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            # A prompt ends in text, where all axes of the positions agree.
            self._positions = self._positions[..., -1:] + 1
            inputs = {
                "inputs_embeds": embeddings.to(self._prompt.inputs_embeds.dtype),
                "attention_mask": self._mask,
                "position_ids": self._positions,
            }
        return self._decoder(**inputs, past_key_values=self._cache, use_cache=True, **options)
