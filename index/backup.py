"""Backup and restore of a data folder; the library may be in use during a backup.

A backup is a folder: `images.sqlite`, `codecs/`, `makers/`, and `backup.json`, which lists every
file with its size and hash and is written last. It holds no vector index, which the store can
rebuild.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import sqlite3
import time
from pathlib import Path

from index.codecs.registry import state_files
from index.concurrency import lock_folder
from index.errors import BackupDamaged, StoreError
from index.files import (
    Write,
    checksum,
    store_errors,
    sync_folder,
    write_bytes,
    write_whole,
)
from index.model_info import FOLDER as MODEL_INFO_FOLDER
from index.store.connections import sqlite_errors
from index.store.sqlite import FILE_NAME, LOCK_NAME

MANIFEST = "backup.json"
VERSION = 1
_CHECKSUM_BYTES = 16
_BLOCK_BYTES = 1 << 20
_SQLITE_SUFFIXES = ("", "-wal", "-journal")
Manifest = dict[str, dict[str, object]]  # size and hash by relative path


def back_up(folder: Path, target: Path) -> None:
    """Copies the library in `folder`, as it is now, to the new folder `target`; all or nothing.

    Raises StoreError if there is no library in `folder` or `target` exists.
    """
    if not (folder / FILE_NAME).is_file():
        raise StoreError("there is no library in this folder")
    if target.exists():
        raise StoreError(f"{target.name} exists already")
    unfinished = target.with_name(target.name + ".unfinished")
    with store_errors("a file cannot be copied"):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            _copy_database(folder / FILE_NAME, unfinished / FILE_NAME)
            # After the database: the state of a codec is on the disk before the first record that
            # needs it, so a later copy has the state of every record in an earlier one.
            _copy_other_files(folder, unfinished)
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
        if version != VERSION:
            raise BackupDamaged(f"the backup has version {version}, not {VERSION}")
        # The hash of the list first: damage to the list could leave out a file.
        if _manifest_checksum(files) != manifest["files_blake2b"]:
            raise BackupDamaged("the list of files in the backup is damaged")
        if set(_relative_files(backup)) != set(files):
            raise BackupDamaged("the backup lacks files of its list or has others")
        for name, description in files.items():
            if _describe(backup / name) != description:
                raise BackupDamaged(f"{name} in the backup is damaged")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupDamaged("the backup cannot be read, or is not one") from error


def restore(backup: Path, folder: Path) -> None:
    """Puts the library of a backup into `folder`, which must hold none; whole or not at all.

    Raises BackupDamaged, StoreError.
    """
    verify_backup(backup)
    with store_errors("a file cannot be copied"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(folder / LOCK_NAME)
        try:
            # A log without its database too: SQLite might apply it to the restored one.
            database_files = [
                folder / (FILE_NAME + suffix) for suffix in _SQLITE_SUFFIXES
            ]
            if any(file.exists() for file in database_files):
                raise StoreError("there is a library in this folder already")
            for snapshot in folder.glob("vectors-*"):
                snapshot.unlink()
            _copy_other_files(backup, folder)
            # Last: without it there is no library here, and the restore can be repeated.
            _copy_file(backup / FILE_NAME, folder / FILE_NAME)
        finally:
            lock.release()


def _copy_database(source: Path, target: Path) -> None:
    """Copies one transaction's view of the file, while writers go on."""
    read_only = f"{source.resolve().as_uri()}?mode=ro"
    with sqlite_errors(), contextlib.ExitStack() as stack:
        old = sqlite3.connect(read_only, uri=True)
        stack.callback(old.close)
        new = sqlite3.connect(target)
        stack.callback(new.close)
        # All pages in one step: SQLite starts again when a commit falls between two steps, and
        # under a steady stream of uploads a backup in steps would never end.
        old.backup(new)
        (result,) = new.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise StoreError(
            "the copy of the store is damaged, and so is the store: check the library"
        )
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _copy_other_files(source: Path, target: Path) -> None:
    """Copies what lies beside the store: the state of codecs, and the models of fingerprints."""
    model_infos = sorted((source / MODEL_INFO_FOLDER).glob("*.json"))
    for file in [*state_files(source / "codecs"), *model_infos]:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        _copy_file(file, copy)


def _copy_file(source: Path, target: Path) -> None:
    def write_blocks(write: Write) -> None:
        with source.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                write(block)

    write_whole(target, write_blocks)


def _write_manifest(backup: Path) -> None:
    files = {name: _describe(backup / name) for name in _relative_files(backup)}
    manifest = {
        "version": VERSION,
        "created_at_ms": time.time_ns() // 1_000_000,
        "files": files,
        "files_blake2b": _manifest_checksum(files),
    }
    text = json.dumps(manifest, indent=1)
    write_bytes(backup / MANIFEST, text.encode())


def _relative_files(backup: Path) -> list[str]:
    """Relative paths of all files but the manifest, sorted."""
    files = [path for path in backup.rglob("*") if path.is_file()]
    names = {str(path.relative_to(backup)) for path in files}
    return sorted(names - {MANIFEST})


def _describe(path: Path) -> dict[str, object]:
    new_hash = functools.partial(hashlib.blake2b, digest_size=_CHECKSUM_BYTES)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, new_hash)
    return {"bytes": path.stat().st_size, "blake2b": digest.hexdigest()}


def _manifest_checksum(files: Manifest) -> str:
    text = json.dumps(files, sort_keys=True)
    return checksum(text.encode(), _CHECKSUM_BYTES).hex()
