"""Errors of the index.

LibraryError
├── StoreError
│   ├── LibraryMissing     there is no library in a folder
│   ├── StoreBusy          another process, or another open library of this one, holds the store
│   ├── StoreFull          no space left; the call stored nothing
│   ├── StoreReadOnly      the folder or its files cannot be written
│   ├── StoreUnreachable   the server of the store does not answer, or refuses the connection
│   ├── StoreAccessDenied  the server of the store denies the user a right
│   ├── StoreClosed        used after `close`
│   ├── StoreTooNew        written by a later version of the format
│   ├── StoreDamaged       the file is no store any more; restore a backup
│   └── RecordDamaged      a record's bytes do not match its checksum; has `row` and `id` if known
├── InvalidTarget          a new folder exists already, or is among the collections (ValueError)
├── BackupDamaged          a backup is incomplete or its bytes are wrong
├── ExportDamaged          an export, or a file of one, is incomplete or its bytes are wrong
├── IndexDamaged           a snapshot of a vector index is unreadable; the store can rebuild it
├── CodecError
│   ├── CodecStateMissing  a trained codec lacks its trained state
│   ├── CodecStateDamaged  trained state is unreadable or does not fit the tokens
│   └── InvalidTokens      tokens a codec cannot hold, or bytes it did not write (ValueError)
├── WrongFingerprint       tokens or embeddings of another model (ValueError)
├── InvalidVector          an embedding or query of wrong shape, not finite or zero (ValueError)
├── InvalidMetadata        metadata that is no JSON object (ValueError)
├── InvalidFilter          a metadata filter that is malformed (ValueError)
├── InvalidCalibration     pairs no curve fits, or a file without a curve (ValueError)
├── CollectionExists       a collection of that name exists
├── CollectionMissing      no collection has that name (LookupError)
├── InvalidCollectionName  a name that no collection can have (ValueError)
├── InvalidCursor          a page cursor that this library did not make (ValueError)
├── GpuMissing             an engine needs a GPU and FAISS finds none
├── ExtraMissing           an engine needs an extra of the package that is not installed
└── UnknownEngine          no store, index or codec has that name (ValueError)

Those marked ValueError or LookupError derive from that builtin too.
"""

# The names state the condition, as in "StoreFull"; only bases keep the suffix "Error".

from __future__ import annotations


class LibraryError(Exception):
    """Base of all errors raised by `index`."""


class StoreError(LibraryError):
    """A token store could not serve the call; the call stored nothing."""


class LibraryMissing(StoreError):
    """There is no library in a folder."""


class StoreBusy(StoreError):
    """Another process, or another open library of this one, holds the store."""


class StoreFull(StoreError):
    """No space left; the call stored nothing."""


class StoreReadOnly(StoreError):
    """The folder or its files cannot be written."""


class StoreUnreachable(StoreError):
    """The server of the store does not answer, or refuses the connection."""


class StoreAccessDenied(StoreError):
    """The server of the store denies the user a right."""


class StoreClosed(StoreError):
    """Used after `close`."""

    def __init__(self, message: str = "the store is closed") -> None:
        super().__init__(message)


class StoreTooNew(StoreError):
    """Written by a later version of the format than this program reads."""


class StoreDamaged(StoreError):
    """The file is no store any more."""


class RecordDamaged(StoreError):
    """A record's bytes do not match its checksum."""

    def __init__(
        self, message: str, *, row: int | None = None, id: str | None = None
    ) -> None:
        super().__init__(message)
        self.row = row
        self.id = id


class InvalidTarget(LibraryError, ValueError):
    """A new folder to write to exists already, or is among the collections."""


class BackupDamaged(LibraryError):
    """A backup is incomplete or its bytes are wrong."""


class ExportDamaged(LibraryError):
    """An export, or a file of one, is incomplete or its bytes are wrong."""


class IndexDamaged(LibraryError):
    """A snapshot of a vector index is unreadable; the store can rebuild it."""


class CodecError(LibraryError):
    """Base of the errors of token codecs."""


class CodecStateMissing(CodecError):
    """A trained codec lacks its trained state."""


class CodecStateDamaged(CodecError):
    """Trained state is unreadable or does not fit the tokens."""


class InvalidTokens(CodecError, ValueError):
    """Tokens a codec cannot hold, or bytes it did not write."""


class WrongFingerprint(LibraryError, ValueError):
    """Tokens or embeddings of another model than the library's."""


class InvalidVector(LibraryError, ValueError):
    """An embedding or query of wrong shape, not finite, or of length zero."""


class InvalidMetadata(LibraryError, ValueError):
    """Metadata that is no JSON object."""


class InvalidFilter(LibraryError, ValueError):
    """A metadata filter that is malformed."""


class InvalidCalibration(LibraryError, ValueError):
    """Pairs that no curve fits, or a file without a curve."""


class CollectionExists(LibraryError):
    """A collection of that name exists."""


class CollectionMissing(LibraryError, LookupError):
    """No collection has that name."""


class InvalidCollectionName(LibraryError, ValueError):
    """A name that no collection can have."""


class InvalidCursor(LibraryError, ValueError):
    """A page cursor that this library did not make."""


class GpuMissing(LibraryError):
    """An engine needs a GPU and FAISS finds none."""


class ExtraMissing(LibraryError):
    """An engine needs an extra of the package that is not installed."""


class UnknownEngine(LibraryError, ValueError):
    """No store, index or codec has that name."""
