"""Backup and restore of a data folder. A backup may be taken while the library is in use, by this
process or another.

Knows nothing of records. A backup is a folder: `images.sqlite`, `codecs/`, `makers/`, and
`backup.json`, which names every file with its size and hash and is written last. The vector index
is not in it: it is rebuilt from the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from index.codecs.registry import state_files
from index.concurrency import FolderLock
from index.errors import BackupDamaged, StoreError, StoreFull
from index.files import NO_SPACE, sync_folder, write_whole
from index.model_info import FOLDER as MAKERS_FOLDER
from index.store.sqlite import FILE_NAME, LOCK_NAME, sqlite_errors

MANIFEST = "backup.json"
VERSION = 1
_BLOCK_BYTES = 1 << 20


def back_up(folder: Path, target: Path) -> None:
    """Copies the library in `folder`, as it is at this moment, to the new folder `target`; whole or
    not at all.

    Raises StoreError when there is no library in `folder`, or `target` is there already.
    """
    if not (folder / FILE_NAME).is_file():
        raise StoreError("there is no library in this folder")
    if target.exists():
        raise StoreError(f"{target.name} is there already")
    unfinished = target.with_name(target.name + ".unfinished")
    with _translated_files():
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            _copy_database(folder / FILE_NAME, unfinished / FILE_NAME)
            # After the database: the state of a codec is there before the first record that needs
            # it.
            _copy_beside(folder, unfinished)
            _write_manifest(unfinished)
            unfinished.replace(target)
            sync_folder(target.parent)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def verify_backup(backup: Path) -> None:
    """Reads every byte of a backup. Raises BackupDamaged."""
    try:
        manifest = json.loads((backup / MANIFEST).read_bytes())
        version, files = manifest["version"], dict(manifest["files"])
        if version != VERSION:
            raise BackupDamaged(f"the backup has version {version}, not {VERSION}")
        if _hash_of(files) != manifest["files_blake2b"]:
            raise BackupDamaged("the list of files in the backup is damaged")
        held = {str(path.relative_to(backup)) for path in _files(backup)}
        if held != set(files):
            raise BackupDamaged("the backup does not hold the files it should")
        for name, description in files.items():
            if _describe(backup / name) != description:
                raise BackupDamaged(f"{name} in the backup is damaged")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupDamaged("the backup cannot be read, or is not one") from error


def restore(backup: Path, folder: Path) -> None:
    """Makes the library of a backup in `folder`, which must hold none; whole or not at all.

    Raises BackupDamaged, StoreError.
    """
    verify_backup(backup)
    with _translated_files():
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder / LOCK_NAME)
        try:
            if any((folder / (FILE_NAME + suffix)).exists() for suffix in ("", "-wal", "-journal")):
                raise StoreError("there is a library in this folder already")
            for snapshot in folder.glob("vectors-*"):
                snapshot.unlink()
            _copy_beside(backup, folder)
            # Last: without it there is no library here, and the restore can be done again.
            _copy_whole(backup / FILE_NAME, folder / FILE_NAME)
        finally:
            lock.release()


def _copy_database(source: Path, target: Path) -> None:
    """One transaction's view of the file. Writers go on meanwhile: SQLite's write-ahead log sees to
    that.
    """
    with sqlite_errors(), contextlib.ExitStack() as stack:
        old = stack.enter_context(
            contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True))
        )
        new = stack.enter_context(contextlib.closing(sqlite3.connect(target)))
        old.backup(new)  # all pages in one step: a step between two commits would start again
        (result,) = new.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise StoreError("the copy of the store is damaged, and so is the store: check the library")
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _copy_beside(source: Path, target: Path) -> None:
    """What is kept beside the store: the state of codecs, and what fingerprints stand for."""
    for file in [*state_files(source / "codecs"), *sorted((source / MAKERS_FOLDER).glob("*.json"))]:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        _copy_whole(file, copy)


def _copy_whole(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        write_whole(
            target,
            lambda take: [take(block) for block in iter(lambda: file.read(_BLOCK_BYTES), b"")],
        )


def _write_manifest(backup: Path) -> None:
    files = {str(path.relative_to(backup)): _describe(path) for path in _files(backup)}
    manifest = {
        "version": VERSION,
        "created_at_ms": time.time_ns() // 1_000_000,
        "files": files,
        "files_blake2b": _hash_of(files),
    }
    write_whole(backup / MANIFEST, lambda take: take(json.dumps(manifest, indent=1).encode()))


def _files(backup: Path) -> list[Path]:
    return sorted(
        path for path in backup.rglob("*") if path.is_file() and path != backup / MANIFEST
    )


def _describe(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return {"bytes": path.stat().st_size, "blake2b": digest}


def _hash_of(files: dict[str, dict[str, object]]) -> str:
    return hashlib.blake2b(json.dumps(files, sort_keys=True).encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def _translated_files() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StoreFull if error.errno in NO_SPACE else StoreError
        raise kind(f"a file cannot be copied: {error.strerror}") from error
