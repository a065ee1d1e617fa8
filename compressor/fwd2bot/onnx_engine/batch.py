"""Continuous batching: sequences join one running batch when they come and leave it at their end.

Each step decodes a token of every running sequence together and reads a part of one prompt. Shapes:
T tokens, D hidden size, W words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compressor.errors import EngineFailed
from compressor.fwd2bot.onnx_engine.decoder import KeyValueRows, OnnxDecoder
from compressor.fwd2bot.onnx_engine.prefix_cache import PrefixCache
from compressor.ports import PrefixStats

# Of a prompt, in one step: less than a second on two cores for the default model, so that whoever
# hangs up stops it soon.
PREFILL_TOKENS = 64
# Of keys and values of earlier prompts: with the default model some 6,000 tokens.
PREFIX_BYTES = 256 * 1024 * 1024


@dataclass(eq=False)
class Sequence:
    """A prompt and the tokens behind it."""

    prompt: NDArray[np.float32]  # (T, D) embeddings
    max_tokens: int
    # (W,) which words may come next; called once for each token. None: all of them.
    allowed: Callable[[], NDArray[np.bool_]] | None = None
    tokens: list[int] = field(default_factory=list)  # written so far
    log_probabilities: list[float] = field(default_factory=list)  # of each of them
    length: int = 0  # tokens in the cache
    error: EngineFailed | None = None  # ended the sequence

    @property
    def is_read(self) -> bool:
        """Whether all of the prompt is in the cache."""
        return self.length >= len(self.prompt)


class ContinuousBatch:
    """All sequences of a decoder. Its rows: first the running ones, then those still being read."""

    def __init__(
        self,
        decoder: OnnxDecoder,
        embed: Callable[[NDArray[np.int64]], NDArray[np.float32]],
        prefill_tokens: int = PREFILL_TOKENS,
        prefix_bytes: int = PREFIX_BYTES,
    ) -> None:
        """`embed` gives the (B, D) embeddings of B tokens.

        Of earlier prompts, `prefix_bytes` of keys and values are kept: a prompt that begins as one
        of them did is read from where they part.
        """
        self._prefixes = PrefixCache(prefix_bytes)
        self._decoder = decoder
        self._embed = embed
        self._prefill_tokens = prefill_tokens
        self._cache = KeyValueRows(decoder.shape)
        self._rows: list[Sequence] = []  # by their row of the cache
        self._running = 0  # rows whose prompt is read
        # Those whose prompt is not read to its end, next first.
        self._waiting: deque[Sequence] = deque()

    @property
    def prefix_stats(self) -> PrefixStats:
        """What was reused of earlier prompts; may be read on any thread."""
        return self._prefixes.stats

    def add(self, sequence: Sequence) -> None:
        """Takes a sequence in; `step` begins to read its prompt. Raises EngineFailed."""
        # What it may need at most, so that no step has to find room.
        tokens = len(sequence.prompt) + sequence.max_tokens
        used = max((each.length for each in self._rows), default=0)
        self._cache.reserve(len(self._rows) + 1, tokens, used)
        row = len(self._rows)
        for states in self._prefixes.longest(sequence.prompt):
            end = sequence.length + states.shape[2]
            for array, known in zip(self._cache.arrays, states, strict=True):
                array[row, :, sequence.length : end] = known
            sequence.length = end
        self._rows.append(sequence)
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Drops a sequence, finished or not; no effect on one that is not there."""
        if sequence not in self._rows:
            return
        row = self._rows.index(sequence)
        if row < self._running:
            # The last running row takes its place, and the last of all rows that one's.
            self._running -= 1
            self._swap(row, self._running)
            row = self._running
        else:
            self._waiting.remove(sequence)
        self._swap(row, len(self._rows) - 1)
        self._rows.pop()
        if not self._rows:
            self._cache.shrink()

    def step(self) -> list[Sequence]:
        """A token of every running sequence, and a part of the prompt that has waited longest.

        Returns the sequences with a new token. After an error of the engine no sequence is left,
        and each has it as its `error`.
        """
        try:
            written = self._decode() if self._running else []
            return written + self._read() if self._waiting else written
        except EngineFailed as error:
            for sequence in self._rows:
                sequence.error = error
            self._rows.clear()
            self._waiting.clear()
            self._running = 0
            self._cache.shrink()
            return []

    def _decode(self) -> list[Sequence]:
        running = self._rows[: self._running]
        last = np.array([sequence.tokens[-1] for sequence in running], np.int64)
        lengths = [sequence.length for sequence in running]
        logits = self._decoder.step(self._embed(last)[:, None], lengths, self._cache)
        for sequence, row in zip(running, logits, strict=True):
            sequence.length += 1
            _choose(sequence, row)
        return running

    def _read(self) -> list[Sequence]:
        sequence = self._waiting.popleft()
        start = sequence.length
        part = sequence.prompt[start : start + self._prefill_tokens]
        row = self._rows.index(sequence)
        logits = self._decoder.step(part[None], [start], self._cache, first_row=row)
        sequence.length += len(part)
        if not sequence.is_read:
            # Behind the others: a long prompt does not keep a short one from its first token.
            self._waiting.append(sequence)
            return []
        states = [array[row, :, : sequence.length] for array in self._cache.arrays]
        self._prefixes.keep(sequence.prompt, np.stack(states))
        self._swap(row, self._running)
        self._running += 1
        _choose(sequence, logits[0])
        return [sequence]

    def _swap(self, first: int, second: int) -> None:
        rows = self._rows
        used = max(rows[first].length, rows[second].length)
        self._cache.swap(first, second, used)
        rows[first], rows[second] = rows[second], rows[first]


def _choose(sequence: Sequence, logits: NDArray[np.float32]) -> None:
    """Adds the likeliest token that is allowed, and its log probability among those."""
    if sequence.allowed is not None:
        logits = np.where(sequence.allowed(), logits, -np.inf)
    token = int(logits.argmax())
    highest = logits[token]
    # In float64: a sum over the vocabulary loses the small probabilities.
    rest = float(np.log(np.exp(logits - highest).sum(dtype=np.float64)))
    sequence.tokens.append(token)
    sequence.log_probabilities.append(-rest)
