"""Names that no photograph has, to teach the first pass to copy a name instead of recalling it.

A photograph is asked about under a made-up name, which only the four visual tokens that spell the
name tell. What the photograph shows does not help.
"""

from __future__ import annotations

import random
import re

from transformers import PreTrainedTokenizerBase

from compressor.default_model.soft_word_projector import NAME_TOKENS

_SPACE = "Ġ"  # how a byte-level tokenizer writes the space that a word begins with
_WORD = re.compile(f"{_SPACE}[A-Za-z]?[a-z]{{2,9}}")
_PART = re.compile("[a-z]{2,6}")  # of a word, not its beginning
# How many pieces a name has: as often as ImageNet's names have one, two or three tokens.
_PIECES, _WEIGHTS = (1, 2, 3), (2, 5, 2)


class MadeUpNames:
    """Draws names of one to three random pieces of the tokenizer's words: "filed Imm"."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._words = [token[1:] for token in tokens if _WORD.fullmatch(token)]
        self._parts = [token for token in tokens if _PART.fullmatch(token)]

    def draw(self, rng: random.Random) -> str:
        """A name that the visual tokens can spell."""
        while True:
            name = rng.choice(self._words)
            for _ in range(rng.choices(_PIECES, _WEIGHTS)[0] - 1):
                is_word = rng.random() < 0.5
                name += (
                    " " + rng.choice(self._words)
                    if is_word
                    else rng.choice(self._parts)
                )
            # Read again, a tokenizer may take other pieces, and more of them.
            ids = self._tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
            if len(ids) <= NAME_TOKENS:
                return name
