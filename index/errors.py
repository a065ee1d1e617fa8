"""Errors of the index.

LibraryError
├── StoreError
│   ├── StoreBusy          another process, or another open library of this one, holds the store
│   ├── StoreFull          no space left; nothing of the call was stored
│   ├── StoreReadOnly      the folder or its files cannot be written
│   ├── StoreClosed        used after `close`
│   ├── StoreTooNew        written by a later version of the format
│   ├── StoreDamaged       the file is not a store any more; restore a backup
│   └── RecordDamaged      bytes of one record do not match their checksum; carries `row` and `id` where known
├── BackupDamaged          a backup that is incomplete or whose bytes are wrong
├── IndexDamaged           a snapshot of a vector index is unreadable; it can be rebuilt from the store
├── CodecError
│   ├── CodecStateMissing  a trained codec without its trained state
│   ├── CodecStateDamaged  trained state that cannot be read, or does not fit
│   └── InvalidTokens          tokens a codec cannot hold, or bytes it did not write (also a ValueError)
├── WrongFingerprint       tokens or embeddings of another model (also a ValueError)
├── InvalidVector              embedding or query of wrong shape, not finite, or of length zero (also a ValueError)
├── InvalidMetadata            metadata that is not a JSON object (also a ValueError)
├── InvalidFilter              a filter over metadata that means nothing (also a ValueError)
├── InvalidCalibration         pairs no curve can be fitted to, or a file that holds none (also a ValueError)
├── CollectionExists       a collection of that name is there already
├── CollectionMissing      no collection has that name (also a LookupError)
├── InvalidCollectionName      a name no collection can have (also a ValueError)
├── KeyInUse               an idempotency key whose request is being worked on
├── KeyReused              an idempotency key that came with another request before (also a ValueError)
├── InvalidCursor              a list cursor not made by this library (also a ValueError)
├── GpuMissing             an engine that needs a GPU, and FAISS finds none
└── UnknownEngine          a store, index or codec of that name does not exist (also a ValueError)
"""

# The names say what is the case, in the field's words; "Error" is kept for the two bases and the codecs'.
# ruff: noqa: N818

from __future__ import annotations


class LibraryError(Exception):
    """Base of all errors raised by `index`."""


class StoreError(LibraryError):
    """A token store could not do what was asked; nothing of the call was stored."""


class StoreBusy(StoreError):
    """Another process, or another open library of this one, holds the store."""


class StoreFull(StoreError):
    """No space left; nothing of the call was stored."""


class StoreReadOnly(StoreError):
    """The folder or its files cannot be written."""


class StoreClosed(StoreError):
    """Used after `close`."""


class StoreTooNew(StoreError):
    """Written by a later version of the format than this one knows."""


class StoreDamaged(StoreError):
    """The file is not a store any more."""


class RecordDamaged(StoreError):
    """Bytes of one record do not match their checksum."""

    def __init__(self, message: str, *, row: int | None = None, id: str | None = None) -> None:
        super().__init__(message)
        self.row = row
        self.id = id


class BackupDamaged(LibraryError):
    """A backup that is incomplete or whose bytes are wrong."""


class IndexDamaged(LibraryError):
    """A snapshot of a vector index is unreadable; it can be rebuilt from the store."""


class CodecError(LibraryError):
    """Base of the errors of token codecs."""


class CodecStateMissing(CodecError):
    """A trained codec without its trained state."""


class CodecStateDamaged(CodecError):
    """Trained state that cannot be read, or does not fit the tokens."""


class InvalidTokens(CodecError, ValueError):
    """Tokens a codec cannot hold, or bytes it did not write."""


class WrongFingerprint(LibraryError, ValueError):
    """Tokens or embeddings of another model than asked for."""


class InvalidVector(LibraryError, ValueError):
    """An embedding or query of wrong shape, not finite, or of length zero."""


class InvalidMetadata(LibraryError, ValueError):
    """Metadata that is not a JSON object."""


class InvalidFilter(LibraryError, ValueError):
    """A filter over metadata that means nothing."""


class InvalidCalibration(LibraryError, ValueError):
    """Pairs no curve can be fitted to, or a file that holds none."""


class CollectionExists(LibraryError):
    """A collection of that name is there already."""


class CollectionMissing(LibraryError, LookupError):
    """No collection has that name."""


class InvalidCollectionName(LibraryError, ValueError):
    """A name no collection can have."""


class KeyInUse(LibraryError):
    """An idempotency key whose request is being worked on."""


class KeyReused(LibraryError, ValueError):
    """An idempotency key that came with another request before."""


class InvalidCursor(LibraryError, ValueError):
    """A list cursor not made by this library."""


class GpuMissing(LibraryError):
    """An engine that needs a GPU, and FAISS finds none."""


class UnknownEngine(LibraryError, ValueError):
    """A store, index or codec of that name does not exist."""
