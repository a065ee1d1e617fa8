"""Codec registry of a library: codecs by recorded name, their trained state kept beside the data.

Without the state of their codec, tokens are lost. So a library keeps a copy of every state it ever
wrote with: `codecs/NAME@HASH.faiss`, or `.npz` for mixtures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from index.codecs.dictionary import MixtureCodec, words_per_token
from index.codecs.scalar import SELF_CONTAINED, StatefulCodec, TokenCodec, TrainedCodec
from index.errors import CodecStateDamaged, CodecStateMissing
from index.files import store_errors, write_bytes

_FAISS_SUFFIX = ".faiss"
_MIXTURE_SUFFIX = ".npz"


def read_trained(kind: str, path: Path) -> StatefulCodec:
    """The trained codec in a state file. Raises OSError, CodecStateDamaged."""
    words = words_per_token(kind)
    state = path.read_bytes()
    return TrainedCodec(kind, state) if words is None else MixtureCodec(words, state)


def read_shipped(kind: str, path: Path) -> StatefulCodec:
    """`read_trained` of a file that a user named. Raises CodecStateMissing, CodecStateDamaged."""
    try:
        return read_trained(kind, path)
    except OSError as error:
        raise CodecStateMissing(
            f"the trained state of codec {kind} cannot be read: {error.strerror}"
        ) from error


def state_suffix(name: str) -> str:
    """The suffix of a codec's state file, by its short or recorded name."""
    return _FAISS_SUFFIX if words_per_token(name) is None else _MIXTURE_SUFFIX


def state_files(folder: Path) -> list[Path]:
    """The state files in a folder, such as one of adapters or that of a registry."""
    suffixes = (_FAISS_SUFFIX, _MIXTURE_SUFFIX)
    return sorted(path for path in folder.glob("*") if path.suffix in suffixes)


class CodecRegistry:
    """Codecs by recorded name. Thread-safe."""

    def __init__(self, folder: Path, fetch: Callable[[], None] | None = None) -> None:
        """Creates `folder` once there is trained state to keep.

        `fetch` brings state there that other processes have kept, and takes them what is new.
        """
        self._folder = folder
        self._fetch = fetch
        self._lock = threading.Lock()
        self._codecs: dict[str, TokenCodec] = {}

    def choose(self, kind: str, state: Path | None) -> TokenCodec:
        """The codec to write with: `kind` by its own, or with the trained state in a file.

        Raises CodecStateMissing, CodecStateDamaged, and StoreError if the state cannot be copied.
        """
        if kind in SELF_CONTAINED or state is None:
            return self.by_name(kind)
        codec = read_shipped(kind, state)
        # Before the first record is written with it: the file the user named may go away.
        self._keep(codec)
        return codec

    def add(self, state: Path) -> None:
        """Keeps the trained state in a file that is named as in a registry.

        Raises CodecStateMissing, CodecStateDamaged, and StoreError if it cannot be copied.
        """
        kind, _, _ = state.stem.partition("@")
        codec = read_shipped(kind, state)
        if codec.name != state.stem:
            raise CodecStateDamaged(f"the trained state in {state.name} is another's")
        self._keep(codec)
        if self._fetch is not None:
            # It goes both ways: a store elsewhere gets the state too.
            self._fetch()

    def by_name(self, name: str) -> TokenCodec:
        """The codec of a recorded name. Raises CodecStateMissing, CodecStateDamaged."""
        with self._lock:
            if name not in self._codecs:
                make = SELF_CONTAINED.get(name)
                self._codecs[name] = self._read(name) if make is None else make()
            return self._codecs[name]

    def _path(self, name: str) -> Path:
        # Names come from records and from settings; none may lead out of the folder.
        if "/" in name or name.startswith("."):
            raise CodecStateMissing(f"no codec is called {name!r}")
        return self._folder / f"{name}{state_suffix(name)}"

    def _read(self, name: str) -> StatefulCodec:
        kind, _, _ = name.partition("@")
        if self._fetch is not None and not self._path(name).exists():
            self._fetch()
        try:
            codec = read_trained(kind, self._path(name))
        except OSError as error:
            raise CodecStateMissing(f"codec {name} lacks its trained state") from error
        # The name a codec gives itself has the hash of the bytes just read: other bytes, damaged
        # or exchanged, give another name, and their tokens would be silently wrong.
        if codec.name != name:
            raise CodecStateDamaged(f"the trained state of codec {name} is damaged")
        return codec

    def _keep(self, codec: StatefulCodec) -> None:
        path = self._path(codec.name)
        with store_errors(f"the trained state of codec {codec.name} cannot be kept"):
            if not path.exists() or path.read_bytes() != codec.state:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, codec.state)
        with self._lock:
            self._codecs[codec.name] = codec
