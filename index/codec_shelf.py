"""The token codecs of one library, with the trained state they need kept beside the data.

Knows nothing of records. Tokens without the state of their codec are lost, so a library keeps its own copy of every
state it ever wrote with, under the recorded name: codecs/NAME@HASH.faiss.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.codecs import SELF_CONTAINED, TokenCodec, TrainedCodec, read_trained
from index.errors import CodecStateDamaged, CodecStateMissing, StoreError
from index.files import write_whole
from index.soft_words import SoftWordCodec, words_a_token


class CodecShelf:
    """Codecs by recorded name. Safe to call from several threads."""

    def __init__(self, folder: Path, vocabulary: NDArray[np.float32] | None = None) -> None:
        """`folder` is made once a trained codec is put on the shelf.

        `vocabulary` (V, D) are the word embeddings of the model, for codecs in soft words. They are not kept: tokens
        without their model are of no use anyway.
        """
        self._folder = folder
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._codecs: dict[str, TokenCodec] = {}

    def choose(self, kind: str, state: Path | None) -> TokenCodec:
        """The codec to write with: `kind` alone if it needs no training, else with its state file.

        Raises CodecStateMissing, CodecStateDamaged, StoreError (the state could not be copied to the shelf).
        """
        words = words_a_token(kind)
        if words is not None:
            return self.by_name(self._soft_words(kind, words).name)
        if kind in SELF_CONTAINED or state is None:
            return self.by_name(kind)
        try:
            codec = read_trained(kind, state)
        except OSError as error:
            raise CodecStateMissing(f"the trained state of codec {kind} cannot be read: {error.strerror}") from error
        self._keep(codec)
        return codec

    def by_name(self, name: str) -> TokenCodec:
        """The codec of a recorded name. Raises CodecStateMissing, CodecStateDamaged."""
        with self._lock:
            if name not in self._codecs:
                self._codecs[name] = self._make(name)
            return self._codecs[name]

    def check(self, name: str) -> None:
        """Raises CodecStateMissing or CodecStateDamaged if tokens of this codec cannot be read.

        Codecs in soft words pass: whether their vocabulary is there depends on the model, not on the data folder.
        """
        if words_a_token(name) is None:
            self.by_name(name)

    def _make(self, name: str) -> TokenCodec:
        words = words_a_token(name)
        if words is None:
            return SELF_CONTAINED[name]() if name in SELF_CONTAINED else self._read(name)
        codec = self._soft_words(name, words)
        if codec.name != name:
            raise CodecStateMissing(f"codec {name} needs the vocabulary of another model")
        return codec

    def _soft_words(self, name: str, words: int) -> SoftWordCodec:
        if self._vocabulary is None:
            raise CodecStateMissing(f"codec {name} needs the vocabulary of its model")
        return SoftWordCodec(words, self._vocabulary)

    def _path(self, name: str) -> Path:
        if "/" in name or name.startswith("."):
            raise CodecStateMissing(f"no codec is called {name!r}")
        return self._folder / f"{name}.faiss"

    def _read(self, name: str) -> TrainedCodec:
        kind, _, _ = name.partition("@")
        try:
            codec = read_trained(kind, self._path(name))
        except OSError as error:
            raise CodecStateMissing(f"codec {name} needs trained state that is not there") from error
        if codec.name != name:
            raise CodecStateDamaged(f"the trained state of codec {name} is damaged")
        return codec

    def _keep(self, codec: TrainedCodec) -> None:
        path = self._path(codec.name)
        try:
            if not path.exists() or path.read_bytes() != codec.state:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, lambda take: take(codec.state))
        except OSError as error:
            raise StoreError(f"the trained state of codec {codec.name} cannot be kept: {error.strerror}") from error
        with self._lock:
            self._codecs[codec.name] = codec
