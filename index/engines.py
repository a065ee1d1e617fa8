"""The one table from the name of an engine to what makes it.

Knows nothing of how engines work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from index.errors import UnknownEngine
from index.exact_index import ExactIndex
from index.faiss_index import FaissIndex
from index.gpu_index import GpuIndex
from index.growing_index import GrowingIndex
from index.memory_store import MemoryStore
from index.ports import TokenStore, VectorIndex
from index.sqlite_store import SqliteStore

_T = TypeVar("_T")


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
    "faiss": GrowingIndex,
    "flat": FaissIndex,
    "faiss-gpu": GpuIndex,
    "exact": ExactIndex,
}


def engine(table: Mapping[str, _T], name: str) -> _T:
    """The entry called `name`. Raises UnknownEngine."""
    try:
        return table[name]
    except KeyError as error:
        raise UnknownEngine(f"no engine is called {name!r}; there are {', '.join(sorted(table))}") from error
