"""The token codecs of one library, with the trained state they need kept beside the data.

Knows nothing of records. Tokens without the state of their codec are lost, so a library keeps its
own copy of every state it ever wrote with, under the recorded name: codecs/NAME@HASH.faiss, or .npz
for mixtures.
"""

from __future__ import annotations

import threading
from pathlib import Path

from index.codecs.dictionary import MixtureCodec, words_per_token
from index.codecs.scalar import SELF_CONTAINED, StatefulCodec, TokenCodec, TrainedCodec
from index.errors import CodecStateDamaged, CodecStateMissing, StoreError
from index.files import write_whole

_SUFFIXES = (".faiss", ".npz")  # of FAISS's codecs, of mixtures


def read_trained(kind: str, path: Path) -> StatefulCodec:
    """The trained codec in a state file. Raises OSError, CodecStateDamaged."""
    words = words_per_token(kind)
    return (
        TrainedCodec(kind, path.read_bytes())
        if words is None
        else MixtureCodec(words, path.read_bytes())
    )


def read_shipped(kind: str, path: Path) -> StatefulCodec:
    """`read_trained` of a file that somebody named. Raises CodecStateMissing, CodecStateDamaged."""
    try:
        return read_trained(kind, path)
    except OSError as error:
        raise CodecStateMissing(
            f"the trained state of codec {kind} cannot be read: {error.strerror}"
        ) from error


def state_suffix(name: str) -> str:
    """How the state file of a codec ends: by its short or recorded name."""
    return _SUFFIXES[words_per_token(name) is not None]


def state_files(folder: Path) -> list[Path]:
    """The files of trained state in a folder, such as one of adapters or the shelf's own."""
    return sorted(path for path in folder.glob("*") if path.suffix in _SUFFIXES)


class CodecRegistry:
    """Codecs by recorded name. Safe to call from several threads."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made once a trained codec is put on the shelf."""
        self._folder = folder
        self._lock = threading.Lock()
        self._codecs: dict[str, TokenCodec] = {}

    def choose(self, kind: str, state: Path | None) -> TokenCodec:
        """The codec to write with: `kind` alone if it needs no training, else with its state file.

        Raises CodecStateMissing, CodecStateDamaged, StoreError (the state could not be copied to
        the shelf).
        """
        if kind in SELF_CONTAINED or state is None:
            return self.by_name(kind)
        codec = read_shipped(kind, state)
        self._keep(codec)
        return codec

    def by_name(self, name: str) -> TokenCodec:
        """The codec of a recorded name. Raises CodecStateMissing, CodecStateDamaged."""
        with self._lock:
            if name not in self._codecs:
                self._codecs[name] = (
                    SELF_CONTAINED[name]() if name in SELF_CONTAINED else self._read(name)
                )
            return self._codecs[name]

    def _path(self, name: str) -> Path:
        if "/" in name or name.startswith("."):
            raise CodecStateMissing(f"no codec is called {name!r}")
        return self._folder / f"{name}{state_suffix(name)}"

    def _read(self, name: str) -> StatefulCodec:
        kind, _, _ = name.partition("@")
        try:
            codec = read_trained(kind, self._path(name))
        except OSError as error:
            raise CodecStateMissing(
                f"codec {name} needs trained state that is not there"
            ) from error
        if codec.name != name:
            raise CodecStateDamaged(f"the trained state of codec {name} is damaged")
        return codec

    def _keep(self, codec: StatefulCodec) -> None:
        path = self._path(codec.name)
        try:
            if not path.exists() or path.read_bytes() != codec.state:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, lambda take: take(codec.state))
        except OSError as error:
            raise StoreError(
                f"the trained state of codec {codec.name} cannot be kept: {error.strerror}"
            ) from error
        with self._lock:
            self._codecs[codec.name] = codec
