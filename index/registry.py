"""The registry of engines: names in the settings to token stores and vector indexes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from index.errors import UnknownEngine
from index.ports import TokenStore, VectorIndex
from index.store.memory import MemoryStore
from index.store.sqlite import SqliteStore
from index.vectors.auto_index import AutoIndex
from index.vectors.flat_index import FlatIndex
from index.vectors.gpu_index import GpuIndex
from index.vectors.numpy_index import NumpyIndex

log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class StoreEngine:
    """A kind of token store."""

    open: Callable[[Path], TokenStore]  # from the data folder
    # outlives the process, so that snapshots of the vector index are worth keeping
    durable: bool


STORES: Mapping[str, StoreEngine] = {
    "sqlite": StoreEngine(open=SqliteStore, durable=True),
    "memory": StoreEngine(open=lambda _folder: MemoryStore(), durable=False),
}
INDEXES: Mapping[str, Callable[[int], VectorIndex]] = {  # from the embedding size
    "auto": AutoIndex,
    "flat": FlatIndex,
    "faiss-gpu": GpuIndex,
    "numpy": NumpyIndex,
}

# Settings files and the names of snapshots carry these; both stay valid for one release.
_FORMER_INDEX_NAMES: Mapping[str, str] = {"faiss": "auto", "exact": "numpy"}


def engine(table: Mapping[str, _T], name: str) -> _T:
    """The entry called `name`. Raises UnknownEngine."""
    try:
        return table[name]
    except KeyError as error:
        names = ", ".join(sorted(table))
        raise UnknownEngine(
            f"no engine is called {name!r}; there are {names}"
        ) from error


def current_index_name(name: str) -> str:
    """The present name of a vector index engine; a former one is accepted with a warning."""
    current = _FORMER_INDEX_NAMES.get(name)
    if current is None:
        return name
    log.warning(
        "vector index engine %r is now called %r; the next release drops the old name",
        name,
        current,
    )
    return current


def former_names(name: str) -> list[str]:
    """Former names of the engine `name`, under which its snapshots may lie in a data folder."""
    return [
        former for former, current in _FORMER_INDEX_NAMES.items() if current == name
    ]
