"""What makes up a data folder: the one list that every tool for the whole of it walks.

A data folder holds a library, and for each collection one more in `collections/NAME`. A feature
that keeps a file in there adds it here, and says whether a backup needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from index.errors import InvalidTarget, LibraryMissing
from index.store.sqlite import FILE_NAME, LOCK_NAME

COLLECTIONS = "collections"
REPLICAS = "replicas"  # folders of a cluster's replicas on this machine, one for each
# Small letters only: on a file system that ignores case, "Cats" and "cats" would be one folder.
COLLECTION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
# Lies in the folder while a backup is being restored into it.
RESTORING = "restoring"


@dataclass(frozen=True)
class Part:
    """Files of a library, by a pattern relative to its folder."""

    pattern: str
    in_backup: bool = False  # if not, it can be derived, or is of no use elsewhere
    is_database: bool = (
        False  # of SQLite, which may be in use: its files are not copied one by one
    )


PARTS = (
    Part(FILE_NAME, in_backup=True, is_database=True),
    Part(f"{FILE_NAME}-wal"),
    Part(f"{FILE_NAME}-shm"),
    Part(LOCK_NAME),
    Part("codecs/*.faiss", in_backup=True),
    Part("codecs/*.npz", in_backup=True),
    Part("makers/*.json", in_backup=True),
    Part("vectors-*.snapshot"),
    Part("damaged/*"),
    # Without it a restored service would be open to everyone who reaches it.
    Part("keys.sqlite", in_backup=True, is_database=True),
    Part("keys.sqlite-*"),
    Part("receipts.sqlite*"),
    # What waits in jobs is in no library yet.
    Part("jobs.sqlite*"),
    # Each is a data folder of the same kind; the images of a cluster are in a shared store.
    Part(f"{REPLICAS}/**/*"),
    Part("migrating"),
    Part(RESTORING),
)


@dataclass(frozen=True)
class LibraryFolder:
    """The folder of one library in a data folder."""

    path: Path
    collection: str | None = None  # None for the library without a name


def check_library(data_folder: Path) -> None:
    """Raises LibraryMissing unless there is a library in the folder."""
    # Opening a store would create it there.
    if not (data_folder / FILE_NAME).is_file():
        raise LibraryMissing(f"there is no library in {data_folder.absolute()}")


def check_target(target: Path, data_folder: Path) -> None:
    """Raises InvalidTarget unless `target` can be a new folder that something is written to."""
    if target.exists():
        raise InvalidTarget(f"{target.absolute()} exists already; name a new folder")
    # Every folder in there is taken for a collection.
    collections = (data_folder / COLLECTIONS).resolve()
    if target.resolve().is_relative_to(collections):
        raise InvalidTarget(
            f"{target.absolute()} would be among the collections of the library;"
            " name a folder elsewhere"
        )


def library_folders(data_folder: Path) -> list[LibraryFolder]:
    """The library without a name and every collection, by name; those that are there."""
    folders = [LibraryFolder(data_folder)]
    for name in collection_names(data_folder):
        folders.append(LibraryFolder(data_folder / COLLECTIONS / name, name))
    return [folder for folder in folders if (folder.path / FILE_NAME).is_file()]


def collection_names(data_folder: Path) -> list[str]:
    """The names of the folders of collections, sorted; empty ones too."""
    folder = data_folder / COLLECTIONS
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and COLLECTION_NAME.fullmatch(path.name)
    )


def files_to_copy(library: Path, *, databases: bool) -> Iterator[Path]:
    """The files of a library that belong in a backup: its databases, or all others."""
    for part in PARTS:
        if part.in_backup and part.is_database == databases:
            yield from sorted(library.glob(part.pattern))
