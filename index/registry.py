"""The one table from the name of an engine to what makes it.

Knows nothing of how engines work.
"""

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

_T = TypeVar("_T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreEngine:
    """How a token store is opened."""

    open: Callable[[Path], TokenStore]  # given the data folder
    durable: bool  # outlives the process, so that snapshots of the vector index are worth keeping


STORES: Mapping[str, StoreEngine] = {
    "sqlite": StoreEngine(open=SqliteStore, durable=True),
    "memory": StoreEngine(open=lambda _folder: MemoryStore(), durable=False),
}
INDEXES: Mapping[str, Callable[[int], VectorIndex]] = {  # given the embedding size
    "auto": AutoIndex,
    "flat": FlatIndex,
    "faiss-gpu": GpuIndex,
    "numpy": NumpyIndex,
}

# Accepted for one release more: settings and folder names of the release before use them.
_FORMER_INDEX_NAMES: Mapping[str, str] = {"faiss": "auto", "exact": "numpy"}


def current_index_name(name: str) -> str:
    """The name of a vector index engine today; a former name is accepted and logged."""
    current = _FORMER_INDEX_NAMES.get(name)
    if current is None:
        return name
    log.warning("the vector index %r is now called %r: the old name will go", name, current)
    return current


def former_names(name: str) -> list[str]:
    """Names under which the release before wrote the snapshots of the engine `name`."""
    return [former for former, current in _FORMER_INDEX_NAMES.items() if current == name]


def engine(table: Mapping[str, _T], name: str) -> _T:
    """The entry called `name`. Raises UnknownEngine."""
    try:
        return table[name]
    except KeyError as error:
        raise UnknownEngine(
            f"no engine is called {name!r}; there are {', '.join(sorted(table))}"
        ) from error
