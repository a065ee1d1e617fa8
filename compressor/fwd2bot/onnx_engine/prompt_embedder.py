"""Prompts of the second pass as arrays, and the rest of a model's text side, without PyTorch.

Shapes: T tokens, D hidden size, W words, K summary tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from compressor.fwd2bot.constraints import ConstraintCompiler
from compressor.fwd2bot.onnx_engine.words import Words
from compressor.fwd2bot.prompts import PromptRenderer, check_lengths
from compressor.ports import GenerationLimits, GenerationRequest

if TYPE_CHECKING:
    from compressor.fwd2bot.model import SummaryLvlm


class PromptEmbedder:
    """Embeds conversations about images with summary tokens in place of the images."""

    def __init__(
        self,
        renderer: PromptRenderer,
        tokenizer: Tokenizer,
        words: Words,
        end_ids: Iterable[int],
        context_tokens: int,
    ) -> None:
        """`end_ids` end an answer."""
        self.renderer = renderer
        self.tokenizer = tokenizer
        self.words = words
        self.end_ids = frozenset(end_ids)
        self._context_tokens = context_tokens

    @classmethod
    def of(cls, model: SummaryLvlm) -> PromptEmbedder:
        """Of a model in PyTorch, whose embedding matrix it shares where that is float32."""
        return cls(
            model.prompts,
            model.backend_tokenizer,
            Words(model.embedding.weight.detach().float().cpu().numpy()),
            model.end_ids,
            model.context_tokens,
        )

    def prompts(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> list[NDArray[np.float32]]:
        """The (T, D) prompt of each request.

        Raises RequestTooLong for a prompt over its limit, or one whose answer does not fit the
        context.
        """
        prompts = [self._prompt(request) for request in requests]
        check_lengths([len(each) for each in prompts], limits, self._context_tokens)
        return prompts

    def embed(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(T,) ids of words → (T, D)."""
        return self.words[ids]

    def constraint_compiler(self) -> ConstraintCompiler:
        """What compiles constraints for the model's vocabulary."""
        return ConstraintCompiler(self.tokenizer, len(self.words), self.end_ids)

    def _prompt(self, request: GenerationRequest) -> NDArray[np.float32]:
        turns = [(turn.role, turn.text) for turn in request.conversation]
        ids = np.array(self.renderer.prompt_ids(len(request.images), turns), np.int64)
        pieces = []
        start = 0
        places = np.flatnonzero(ids == self.renderer.image_token_id)
        for place, vectors in zip(places, request.images, strict=True):
            pieces += [self.embed(ids[start:place]), vectors.astype(np.float32)]
            start = int(place) + 1
        return np.concatenate([*pieces, self.embed(ids[start:])])
