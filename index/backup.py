"""Backup and restore of a data folder; its libraries may be in use during a backup.

A backup is a folder with the same layout as a data folder: the parts that `data_folder` says belong
in it, of the library without a name and of every collection; and `backup.json`, which lists every
file with its size and hash and is written last.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from pathlib import Path

from index.concurrency import lock_folder
from index.data_folder import (
    COLLECTIONS,
    RESTORING,
    LibraryFolder,
    check_library,
    check_target,
    files_to_copy,
    library_folders,
)
from index.errors import BackupDamaged, StoreError
from index.files import (
    Write,
    store_errors,
    sync_folder,
    write_bytes,
    write_whole,
)
from index.manifest import body_checksum, describe, describe_all, relative_files
from index.store.connections import sqlite_errors
from index.store.sqlite import FILE_NAME, LOCK_NAME, read_only

MANIFEST = "backup.json"
VERSION = 2
# Version 1 was written before collections were part of a backup.
_READABLE = (1, VERSION)
_BLOCK_BYTES = 1 << 20
_SQLITE_SUFFIXES = ("", "-wal", "-journal")


def back_up(folder: Path, target: Path) -> None:
    """Copies the libraries in `folder`, as they are now, to the new folder `target`.

    All or nothing. Raises InvalidTarget, and StoreError if there is no library in `folder`.
    """
    check_library(folder)
    check_target(target, folder)
    unfinished = target.with_name(target.name + ".unfinished")
    with store_errors("a file cannot be copied"):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            for library in library_folders(folder):
                _copy_library(library, unfinished / library.path.relative_to(folder))
            # Last: a folder with a manifest is a whole backup.
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
        version = manifest["version"]
        files = dict(manifest["files"])
        if version not in _READABLE:
            raise BackupDamaged(f"the backup has version {version}, not {VERSION}")
        # The hash of the list first: damage to the list could leave out a file.
        if body_checksum(files) != manifest["files_blake2b"]:
            raise BackupDamaged("the list of files in the backup is damaged")
        if set(relative_files(backup, MANIFEST)) != set(files):
            raise BackupDamaged("the backup lacks files of its list or has others")
        for name, description in files.items():
            if describe(backup / name) != description:
                raise BackupDamaged(f"{name} in the backup is damaged")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupDamaged("the backup cannot be read, or is not one") from error


def restore(backup: Path, folder: Path) -> None:
    """Puts the libraries of a backup into `folder`, which must hold none; whole or not at all.

    Raises BackupDamaged, StoreError.
    """
    verify_backup(backup)
    with store_errors("a file cannot be copied"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(folder / LOCK_NAME)
        try:
            marker = folder / RESTORING
            if not marker.exists():
                _check_empty(folder)
                # From here on, collections in the folder are what a restore has put there.
                write_bytes(marker, b"")
            shutil.rmtree(folder / COLLECTIONS, ignore_errors=True)
            for snapshot in folder.glob("vectors-*"):
                snapshot.unlink()
            files = relative_files(backup, MANIFEST)
            # Last: without it there is no library here, and the restore can be repeated.
            files.sort(key=lambda name: name == FILE_NAME)
            for name in files:
                copy = folder / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                _copy_file(backup / name, copy)
            marker.unlink()
            sync_folder(folder)
        finally:
            lock.release()


def _check_empty(folder: Path) -> None:
    """Raises StoreError if there is a library in the folder, or what is left of one."""
    # A log without its database too: SQLite might apply it to the restored one.
    files = [folder / (FILE_NAME + suffix) for suffix in _SQLITE_SUFFIXES]
    if any(file.exists() for file in files) or library_folders(folder):
        raise StoreError(
            f"there is a library in {folder.absolute()} already; a backup is restored into a folder"
            " without one"
        )


def _copy_library(library: LibraryFolder, target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file in files_to_copy(library.path, databases=True):
            _copy_database(file, target / file.name)
        # After the databases: the state of a codec is on the disk before the first record that
        # needs it, so a later copy has the state of every record in an earlier one.
        for file in files_to_copy(library.path, databases=False):
            copy = target / file.relative_to(library.path)
            copy.parent.mkdir(exist_ok=True)
            _copy_file(file, copy)
    except (OSError, StoreError):
        # A collection may be deleted while it is copied; then it is not of this moment.
        if library.collection is None or library.path.exists():
            raise
        shutil.rmtree(target)


def _copy_database(source: Path, target: Path) -> None:
    """Copies one transaction's view of the file, while writers go on; without its free pages."""
    problem = f"{source.name} cannot be copied to {target}"
    with sqlite_errors(problem), contextlib.ExitStack() as stack:
        old = read_only(source)
        stack.callback(old.close)
        # One statement and so one view. SQLite's copying in steps starts again when a commit falls
        # between two of them, and under a steady stream of uploads it would never end.
        old.execute("VACUUM INTO ?", (str(target),))
        new = sqlite3.connect(target)
        stack.callback(new.close)
        (result,) = new.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise StoreError(
            "the copy of the store is damaged, and so is the store: `precis fsck` checks it"
        )
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _copy_file(source: Path, target: Path) -> None:
    def write_blocks(write: Write) -> None:
        with source.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                write(block)

    write_whole(target, write_blocks)


def _write_manifest(backup: Path) -> None:
    files = describe_all(backup, MANIFEST)
    manifest = {
        "version": VERSION,
        "created_at_ms": time.time_ns() // 1_000_000,
        "files": files,
        "files_blake2b": body_checksum(files),
    }
    text = json.dumps(manifest, indent=1)
    write_bytes(backup / MANIFEST, text.encode())
