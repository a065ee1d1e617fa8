"""The registry of engines: names in the settings to token stores and vector indexes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from index.collection_folders import CollectionFolders
from index.concurrency import lock_folder
from index.errors import ExtraMissing, UnknownEngine
from index.ports import CollectionList, OpenStore, VectorIndex
from index.store.memory import MemoryStore
from index.store.sqlite import LOCK_NAME, SqliteStore
from index.vectors.auto_index import AutoIndex
from index.vectors.flat_index import FlatIndex
from index.vectors.gpu_index import GpuIndex
from index.vectors.numpy_index import NumpyIndex

log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class StorePlace:
    """Where the token store of a library is."""

    folder: (
        Path  # of the library: the store itself, or what this process derives from it
    )
    setting: str  # the setting `store`: the name of an engine, or a URL with that as its scheme
    collection: str | None = None  # None for the library without a name


@dataclass(frozen=True)
class StoreEngine:
    """A kind of token store."""

    open: Callable[[StorePlace], OpenStore]
    # Raises LibraryError if the store of a place cannot be opened; changes nothing.
    check: Callable[[StorePlace], None]
    # The collections beside the library without a name, whose place is given.
    collections: Callable[[StorePlace], CollectionList]
    # outlives the process, so that snapshots of the vector index are worth keeping
    durable: bool
    # keeps the images in the data folder, where commands on files find them
    in_folder: bool = True


def _sqlite(place: StorePlace) -> OpenStore:
    return OpenStore(SqliteStore(place.folder))


def _memory(_: StorePlace) -> OpenStore:
    return OpenStore(MemoryStore())


def _check_folder(place: StorePlace) -> None:
    lock = place.folder / LOCK_NAME
    if lock.exists():
        # Taken again when the library is opened; here it only says whether it can be.
        lock_folder(lock).release()


def _folders(place: StorePlace) -> CollectionList:
    return CollectionFolders(place.folder)


def _shared(module: str, extra: str, subject: str) -> StoreEngine:
    """The engine of a store outside the data folder, in a module that needs an extra."""

    def loaded() -> Any:
        """The module. Raises ExtraMissing."""
        try:
            return import_module(module)
        except ImportError as error:
            raise ExtraMissing(
                f"{subject} needs the extra `{extra}`:"
                f" pip install 'precis-service[{extra}]'"
            ) from error

    def open_store(place: StorePlace) -> OpenStore:
        opened: OpenStore = loaded().open_store(
            place.setting, place.folder, place.collection
        )
        return opened

    def check(place: StorePlace) -> None:
        _check_folder(place)
        loaded().check(place.setting)

    def collections(place: StorePlace) -> CollectionList:
        listed: CollectionList = loaded().collections(place.setting, place.folder)
        return listed

    return StoreEngine(
        open=open_store,
        check=check,
        collections=collections,
        durable=True,
        in_folder=False,
    )


_POSTGRES = _shared("index.store.postgres.engine", "postgres", "a store in PostgreSQL")
_LANCE = _shared("index.store.lance.engine", "lance", "a store in Lance")

# By the setting, or by the scheme of the URL that the setting is.
STORES: Mapping[str, StoreEngine] = {
    "sqlite": StoreEngine(
        open=_sqlite, check=_check_folder, collections=_folders, durable=True
    ),
    "memory": StoreEngine(
        open=_memory, check=_check_folder, collections=_folders, durable=False
    ),
    # libpq takes both schemes.
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "lance": _LANCE,  # a folder
    "s3": _LANCE,
    "gs": _LANCE,
    "az": _LANCE,
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


def store_engine(setting: str) -> StoreEngine:
    """The engine of the setting `store`. Raises UnknownEngine."""
    name, separator, _ = setting.partition("://")
    chosen = engine(STORES, name)
    if separator and chosen.in_folder:
        raise UnknownEngine(f"the store {name!r} has no URL")
    return chosen


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
