"""The exported decoder on ONNX Runtime, and the keys and values of all sequences it works on.

Shapes: B rows, T tokens, D hidden size, W words, H key-value heads, C capacity in tokens, S head
size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.errors import EngineFailed, EngineRefused
from compressor.fwd2bot.onnx_engine.canary import Canary
from compressor.fwd2bot.onnx_engine.folder import (
    CANARY,
    GRAPH,
    DecoderShape,
    Precision,
    SecondPassManifest,
    read_manifest,
)
from compressor.fwd2bot.onnx_engine.session import open_session

_LEAST_CAPACITY = 128  # tokens; the buffer's memory is only used where it is written
# Room for so many stays between answers, since the system takes a while to give it anew: 47 MB with
# the default model. More would keep what the largest crowd of long prompts has ever needed.
_KEPT_TOKENS = 1024
# In standard deviations of the logits. Kernels that add in another order differ by 1e-5, and
# rounding to int8 by 0.1. Kernels that overflow differ by several.
_TOLERANCES: dict[Precision, float] = {"float32": 1e-3, "int8": 0.5}


class KeyValueRows:
    """Keys and values of up to as many sequences as there are rows; grows as it is asked to.

    A row holds the tokens of one sequence from its start. The decoder writes into it.
    """

    def __init__(self, shape: DecoderShape) -> None:
        self._shape = shape
        # Keys and values of each layer: 2 × layers arrays (rows, H, C, S) float32.
        self.arrays = self._empty(0, 0)

    @property
    def rows(self) -> int:
        """How many sequences there is room for."""
        return len(self.arrays[0])

    @property
    def capacity(self) -> int:
        """C, how many tokens a row may have."""
        return int(self.arrays[0].shape[2])

    def reserve(self, rows: int, tokens: int, used: int = 0) -> None:
        """Makes room; the first `used` tokens of each row stay.

        Raises EngineFailed without the memory for it.
        """
        if rows <= self.rows and tokens <= self.capacity:
            return
        # Doubled, so that sequences which come one by one do not copy the others each time.
        wanted_rows = self.rows if rows <= self.rows else max(rows, 2 * self.rows)
        wanted_tokens = self.capacity
        if tokens > self.capacity:
            wanted_tokens = max(tokens, 2 * self.capacity, _LEAST_CAPACITY)
        wanted_tokens = min(wanted_tokens, self._shape.context_tokens)
        try:
            grown = self._empty(wanted_rows, wanted_tokens)
        except MemoryError as error:
            raise EngineFailed(
                f"no memory for keys and values of {wanted_rows} answers of {wanted_tokens} tokens"
            ) from error
        for old, new in zip(self.arrays, grown, strict=True):
            new[: old.shape[0], :, :used] = old[:, :, :used]
        self.arrays = grown

    def swap(self, first: int, second: int, used: int) -> None:
        """Exchanges the first `used` tokens of two rows."""
        if first == second:
            return
        for array in self.arrays:
            # No more than that: memory that is only copied would be resident too.
            part = array[:, :, :used]
            part[[first, second]] = part[[second, first]]

    def shrink(self) -> None:
        """Gives back the memory of all rows, if it is much; what they hold is lost."""
        if self.rows * self.capacity > _KEPT_TOKENS:
            self.arrays = self._empty(0, 0)

    def _empty(self, rows: int, tokens: int) -> list[NDArray[np.float32]]:
        shape = (rows, self._shape.key_value_heads, tokens, self._shape.head_size)
        # Not zeroed: the system gives large arrays their memory page by page as they are written.
        return [np.empty(shape, np.float32) for _ in range(2 * self._shape.layers)]


class OnnxDecoder:
    """A language model on ONNX Runtime: embeddings and earlier keys and values in, logits out."""

    def __init__(self, folder: Path, fingerprint: str, threads: int) -> None:
        """Loads the folder of a model's second pass and computes its canary.

        Raises ModelFilesMissing, ModelFilesInvalid or EngineRefused.
        """
        self.manifest = read_manifest(folder, fingerprint, SecondPassManifest)
        self._session = open_session(folder / GRAPH, threads)
        self._check_canary(Canary.load(folder / CANARY))

    @property
    def shape(self) -> DecoderShape:
        """The sizes of inputs and outputs."""
        return self.manifest.shape

    def step(
        self,
        embeddings: NDArray[np.float32],
        lengths: Sequence[int],
        cache: KeyValueRows,
        first_row: int = 0,
    ) -> NDArray[np.float32]:
        """(B, W) logits behind (B, T, D) embeddings in the B rows of the cache from `first_row` on.

        `lengths` are the tokens that each row has already. T is 1, or B is 1: ONNX Runtime reads
        several tokens behind others in one row alone. Raises EngineFailed.
        """
        count, tokens, _ = embeddings.shape
        totals = np.asarray(lengths) + tokens
        # On the right of each row's tokens, where ONNX Runtime's GroupQueryAttention expects it.
        mask = (np.arange(totals.max()) < totals[:, None]).astype(np.int64)
        binding = self._session.io_binding()
        # The binding does not keep its arrays alive, so they have names here.
        inputs = np.ascontiguousarray(embeddings)
        binding.bind_cpu_input("inputs_embeds", inputs)
        binding.bind_cpu_input("attention_mask", mask)
        rows = slice(first_row, first_row + count)
        for layer in range(self.shape.layers):
            for place, name in enumerate(("key", "value")):
                part = cache.arrays[2 * layer + place][rows]
                at = ("cpu", 0, np.float32, part.shape, part.ctypes.data)
                # One buffer for both: new tokens are written behind the old ones, none is copied.
                binding.bind_input(f"past_key_values.{layer}.{name}", *at)
                binding.bind_output(f"present.{layer}.{name}", *at)
        logits = np.empty((count, 1, self.shape.vocabulary), np.float32)
        at = ("cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        binding.bind_output("logits", *at)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise EngineFailed(f"ONNX Runtime stopped: {error}") from error
        return logits[:, 0]

    def _check_canary(self, canary: Canary) -> None:
        prompt_tokens = len(canary.prompt)
        try:
            cache = KeyValueRows(self.shape)
            cache.reserve(1, prompt_tokens + 1)
            first = self.step(canary.prompt[None], [0], cache)
            second = self.step(canary.next_token[None], [prompt_tokens], cache)
        except EngineFailed as error:
            raise EngineRefused(f"the canary could not be computed: {error}") from error
        tolerance = _TOLERANCES[self.manifest.precision]
        canary.check(np.concatenate([first, second]), tolerance)
