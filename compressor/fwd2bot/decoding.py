"""What an LVLM hands to its language model, and decoding step by step behind it.

Shapes: B prompts, T tokens, D hidden size.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from compressor.fwd2bot.prompts import Prompt
from compressor.fwd2bot.single_forward import cache_of

# What every decoder takes; a prompt's own inputs are fields of Prompt.
_PLAIN_ARGUMENTS = {
    "input_ids",
    "past_key_values",
    "use_cache",
    "cache_position",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
}


def prompt_of(model: PreTrainedModel, inputs: dict[str, Any]) -> Prompt:
    """A processor's inputs as the LVLM's language model reads them."""
    handed = _decoder_inputs(model, inputs)
    mask = inputs["attention_mask"]
    embeddings = handed.pop("inputs_embeds")
    positions = handed.pop("position_ids", None)
    # Counted over tokens, not places: padding on the left must not shift a prompt.
    if positions is None:
        positions = (mask.cumsum(1) - 1).clamp(min=0)
    # A plain mask is the one that every later step extends; only others have to be kept. Gemma 3
    # lets the tokens of an image see each other, by masks made from more than `mask`.
    own_mask = handed.pop("attention_mask", None)
    extras = {}
    for name, value in handed.items():
        if value is not None and name not in _PLAIN_ARGUMENTS:
            extras[name] = value
    if own_mask is not None and not isinstance(own_mask, Tensor):
        extras["attention_mask"] = own_mask
    return Prompt(embeddings, mask, positions, mask.sum(1).tolist(), extras)


def _decoder_inputs(model: PreTrainedModel, inputs: dict[str, Any]) -> dict[str, Any]:
    """The arguments that the LVLM calls its language model with; the language model does not run.

    All models make this call. How each prepares it (tiles, grids, positions) differs.
    """
    handed: dict[str, Any] = {}

    def take(
        _module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        handed.update(kwargs)
        # An exception, because a hook has no other way to keep the decoder from running.
        raise _Taken

    decoder: nn.Module = model.get_decoder()
    hook = decoder.register_forward_pre_hook(take, with_kwargs=True)
    try:
        model.base_model(**inputs, use_cache=False)
    except _Taken:
        pass
    finally:
        hook.remove()
    return handed


class _Taken(Exception):
    """Ends a forward pass whose rest is not needed."""


class Decoding:
    """Steps of the decoder over a batch of prompts and what follows them, with a cache.

    The adapter is the caller's to choose.
    """

    def __init__(self, decoder: nn.Module, prompt: Prompt) -> None:
        self._decoder = decoder
        self._prompt = prompt
        self._read = 0  # tokens of each prompt, padding included
        self._mask = prompt.attention_mask
        self._positions = prompt.position_ids
        config = cast(PreTrainedConfig, decoder.config)
        self._before = 0  # places of the mask before the prompts
        if prompt.states_before is None:
            self._cache = DynamicCache(config=config)
        else:
            dtype = prompt.inputs_embeds.dtype
            self._cache = cache_of(prompt.states_before, config, dtype)
            self._before = prompt.states_before.shape[1]

    def read(self, token_count: int) -> bool:
        """Reads the next `token_count` tokens of each prompt, and leaves at least one for `step`.

        False, and nothing is read, if no more than that is left.
        """
        start, end = self._read, self._read + token_count
        # The extras of a prompt belong to the whole of it.
        if self._prompt.extras or end >= self._prompt.inputs_embeds.shape[1]:
            return False
        self._decoder(
            **self._part(start, end), past_key_values=self._cache, use_cache=True
        )
        self._read = end
        return True

    def _part(self, start: int, end: int) -> dict[str, Tensor]:
        prompt = self._prompt
        return {
            "inputs_embeds": prompt.inputs_embeds[:, start:end],
            "attention_mask": prompt.attention_mask[:, : self._before + end],
            "position_ids": prompt.position_ids[..., start:end],
        }

    def step(self, embeddings: Tensor | None = None, **options: Any) -> Any:
        """The decoder's outputs for (B, 1, D) embeddings behind all earlier ones.

        The first step takes none and reads the prompt, or what `read` has left of it.
        """
        if embeddings is None and self._read:
            end = self._prompt.inputs_embeds.shape[1]
            inputs: dict[str, Any] = dict(self._part(self._read, end))
        elif embeddings is None:
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
        return self._decoder(
            **inputs, past_key_values=self._cache, use_cache=True, **options
        )
