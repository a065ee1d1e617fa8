"""First pass on ONNX Runtime (port `SummaryModel`), without PyTorch.

Shapes: B batch, T tokens, K summary tokens, D hidden size, C channels of the retrieval head.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from compressor.errors import (
    EngineFailed,
    EngineRefused,
    ModelFilesInvalid,
)
from compressor.fwd2bot.config import ReadoutKind, SummaryConfig
from compressor.fwd2bot.onnx_engine.canary import QUESTION, FirstPassCanary, picture
from compressor.fwd2bot.onnx_engine.exported_processor import ExportedProcessor
from compressor.fwd2bot.onnx_engine.folder import (
    CANARY,
    GRAPH,
    INNER,
    LAST,
    PARTS,
    PIXELS,
    TOKENIZER,
    VISION,
    VISUAL_TOKENS,
    WORD_SCALES,
    WORDS,
    FirstPassManifest,
    read_manifest,
)
from compressor.fwd2bot.onnx_engine.pixels import pixels
from compressor.fwd2bot.onnx_engine.prompt_embedder import PromptEmbedder
from compressor.fwd2bot.onnx_engine.readout import OnnxRetrievalHead, soft_words
from compressor.fwd2bot.onnx_engine.session import default_threads, open_session
from compressor.fwd2bot.onnx_engine.words import Words
from compressor.fwd2bot.prompts import MAX_TEXT_TOKENS, PromptRenderer
from compressor.ports import Mode, ModelDescription, Summary
from compressor.text import normalise_text

# In standard deviations; kernels that add in another order differ by 1e-5.
_TOLERANCE = 1e-3
# Images or texts at once: enough to keep the cores busy, and little memory beside the weights.
_BATCH_SIZE = 4


class OnnxSummaryModel:
    """Compresses with an exported first pass."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        """Loads what `export_first_pass` wrote and computes its canary.

        Raises ModelFilesMissing, ModelFilesInvalid or EngineRefused.
        """
        self._manifest = read_manifest(folder, fingerprint, FirstPassManifest)
        try:
            self._config = SummaryConfig(**self._manifest.summary)
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            parts = load_file(folder / PARTS)
            self._words = Words.load(folder / WORDS, parts.pop(WORD_SCALES, None))
            self.text_side = self._text_side()
        # The tokenizer's errors have no class of their own.
        except (
            OSError,
            TypeError,
            ValueError,
            SafetensorError,
            TemplateError,
        ) as error:
            raise ModelFilesInvalid(f"{folder} cannot be loaded: {error}") from error
        self._before, self._behind = parts.pop("before"), parts.pop("behind")
        state = {name.removeprefix("head."): value for name, value in parts.items()}
        self._head = OnnxRetrievalHead(state, self._config.pooling)
        self._vision, self._language = _sessions(folder)
        self._outputs = [output.name for output in self._language.get_outputs()]
        self._check(FirstPassCanary.load(folder / CANARY))

    @property
    def fingerprint(self) -> str:
        """See `SummaryModel`."""
        return self._manifest.fingerprint

    @property
    def description(self) -> ModelDescription:
        """See `SummaryModel`."""
        mode = cast(Mode, self._manifest.mode)
        return ModelDescription(self._config.base_model, mode, self._config.kept_counts)

    @property
    def tokens_shape(self) -> tuple[int, int]:
        """See `SummaryModel`."""
        return self._config.token_count, self._words.width

    @property
    def embedding_size(self) -> int:
        """See `SummaryModel`."""
        return self._config.embedding_size

    def compress(self, images: Sequence[Image]) -> Summary:
        """See `SummaryModel`. Raises EngineFailed."""
        # An empty part first, so that no images give arrays of the right shape and not an error.
        tokens = [np.empty((0, *self.tokens_shape), np.float32)]
        embeddings = [np.empty((0, self.embedding_size), np.float32)]
        for start in range(0, len(images), _BATCH_SIZE):
            made = self._compress(images[start : start + _BATCH_SIZE])
            tokens.append(made.tokens)
            embeddings.append(made.embeddings)
        return Summary(np.concatenate(tokens), np.concatenate(embeddings))

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `SummaryModel`. Raises EngineFailed."""
        embeddings = [np.empty((0, self.embedding_size), np.float32)]
        for start in range(0, len(texts), _BATCH_SIZE):
            embeddings.append(self._embed(texts[start : start + _BATCH_SIZE]))
        return np.concatenate(embeddings)

    def _compress(self, images: Sequence[Image]) -> Summary:
        form = self._manifest.pixels
        values = np.stack([pixels(image, form) for image in images])
        (visual,) = _run(self._vision, [VISUAL_TOKENS], {PIXELS: values})
        rows = [
            np.concatenate([self._before, tokens, self._behind]) for tokens in visual
        ]
        embeddings = np.stack(rows)
        last, states = self._states(embeddings, np.ones(embeddings.shape[:2], np.int64))
        count = self._config.token_count
        if self._config.readout == ReadoutKind.HIDDEN:
            tokens = last[:, -count:]
        else:
            # The place before predicts what stands at a place.
            tokens = soft_words(
                last[:, -count - 1 : -1], self._words, self._config.temperature
            )
        embedded = self._head.embed_image(states[:, -count:], tokens)
        return Summary(tokens, embedded)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        renderer = self.text_side.renderer
        plain = [renderer.without_specials(normalise_text(text)) for text in texts]
        # Search texts alone are cut off, not the prompts of the second pass.
        self._tokenizer.enable_truncation(MAX_TEXT_TOKENS)
        rows = [self._tokenizer.encode(text) for text in plain]
        self._tokenizer.no_truncation()
        # A text may have no token at all; ONNX Runtime's attention needs one in every row.
        width = max(1, *(len(row.ids) for row in rows))
        ids = np.zeros((len(rows), width), np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        counted = np.zeros((len(rows), width), np.float32)
        for number, row in enumerate(rows):
            length = len(row.ids)
            ids[number, :length] = row.ids
            mask[number, :length] = 1
            counted[number, :length] = 1 - np.array(row.special_tokens_mask, np.float32)
        embeddings = self.text_side.embed(ids)
        _, states = self._states(embeddings, mask)
        # A mean of the text's own tokens, as in `SummaryLvlm.text_states`.
        total = np.einsum("btc,bt->bc", states, counted)
        mean = total / np.maximum(counted.sum(1, keepdims=True), 1)
        return self._head.embed_text(mean, embeddings, counted)

    def _states(
        self, embeddings: NDArray[np.float32], mask: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, T, D) last states and (B, T, C) states of the retrieval head's layers.

        Of (B, T, D) embeddings, padded on the right where the (B, T) mask is 0; states mean nothing
        there.
        """
        mask[:, 0] = 1
        inputs: dict[str, NDArray[Any]] = {
            "inputs_embeds": embeddings,
            "attention_mask": mask,
        }
        computed = _run(self._language, self._outputs, inputs)
        outputs = dict(zip(self._outputs, computed, strict=True))
        layers = [
            self._layer(layer, embeddings, outputs)
            for layer in self._manifest.embedding_layers
        ]
        return outputs[LAST], np.concatenate(layers, axis=-1)

    def _layer(
        self,
        layer: int,
        embeddings: NDArray[np.float32],
        outputs: dict[str, NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        if layer == 0:
            return embeddings
        if layer == self._manifest.layers:
            return outputs[LAST]
        width = embeddings.shape[-1]
        start = width * self._manifest.inner_layers.index(layer)
        return outputs[INNER][..., start : start + width]

    def _text_side(self) -> PromptEmbedder:
        text = self._manifest.text
        tokenizer = self._tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        processor = ExportedProcessor(
            tokenizer, text.chat_template, text.special_tokens
        )
        return PromptEmbedder(
            PromptRenderer(processor, text.image_token_id),
            tokenizer,
            self._words,
            text.end_ids,
            self._manifest.context_tokens,
        )

    def _check(self, canary: FirstPassCanary) -> None:
        try:
            made = self.compress([picture()])
            (text,) = self.embed_text([QUESTION])
        except EngineFailed as error:
            raise EngineRefused(f"the canary could not be computed: {error}") from error
        canary.check(made.tokens[0], made.embeddings[0], text, _TOLERANCE)


def _sessions(folder: Path) -> list[InferenceSession]:
    """Those of the vision graph and of the language model. Raises ModelFilesInvalid."""

    def opened(graph: str) -> InferenceSession:
        # Without an arena: a batch of pictures needs 0.2 GB, in arrays so large that getting them
        # from the system takes no time beside computing them.
        return open_session(folder / graph, default_threads(), has_arena=False)

    # At once: ONNX Runtime loads a graph on one core, and leaves the interpreter to others.
    with ThreadPoolExecutor() as pool:
        return list(pool.map(opened, (VISION, GRAPH)))


def _run(
    session: Any, outputs: list[str], inputs: dict[str, NDArray[Any]]
) -> list[NDArray[np.float32]]:
    """Raises EngineFailed."""
    try:
        computed: list[NDArray[np.float32]] = session.run(outputs, inputs)
    # Its errors have no base class of their own.
    except Exception as error:
        raise EngineFailed(f"ONNX Runtime stopped: {error}") from error
    return computed
