"""What a person can do about an error of the library, for the commands of the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from index.errors import (
    CodecError,
    CodecStateDamaged,
    CodecStateMissing,
    LibraryError,
    LibraryMissing,
    RecordDamaged,
    StoreAccessDenied,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreTooNew,
    StoreUnreachable,
)
from service.errors import LibraryUnusable
from service.settings import Settings, without_password

# By the nearest base class of an error. Messages of other errors say all that can be done.
REMEDIES: dict[type[LibraryError], str] = {
    LibraryMissing: "--data-dir (or PRECIS_DATA_DIR) names another folder; `precis serve` begins a"
    " library.",
    StoreBusy: "Stop the service or the command that uses it, and try again.",
    StoreFull: "Free space there, and run the same command again.",
    StoreReadOnly: "Give this user the right to write there.",
    StoreUnreachable: "Start the database, or correct --store (or PRECIS_STORE).",
    StoreAccessDenied: "Grant the right to the user in --store (or PRECIS_STORE).",
    StoreTooNew: "Install the version of Précis that wrote it, or a later one.",
    StoreDamaged: "`precis fsck` says what is damaged; `precis restore` brings back a backup.",
    RecordDamaged: "`precis fsck --repair` puts damaged records aside.",
    CodecStateMissing: "--codec-state (or PRECIS_CODEC_STATE) names a file of trained state;"
    " `precis restore` brings back what a backup has.",
    CodecStateDamaged: "--codec-state (or PRECIS_CODEC_STATE) names a file of trained state;"
    " `precis restore` brings back what a backup has.",
}


def explained(error: LibraryError, settings: Settings) -> str:
    """The error; of a store or its codecs also where it is, and the remedy."""
    if not isinstance(error, StoreError | CodecError):
        return str(error)
    message = str(error).removesuffix(".")
    place = _place(settings)
    if place not in message:
        message = f"{place}: {message}"
    for base in type(error).__mro__:
        if base in REMEDIES:
            return f"{message}. {REMEDIES[base]}"
    return f"{message}."


@contextmanager
def library_errors(settings: Settings) -> Iterator[None]:
    """Raises LibraryUnusable, which says where and what can be done, for a LibraryError."""
    try:
        yield
    except LibraryError as error:
        raise LibraryUnusable(explained(error, settings)) from error


def _place(settings: Settings) -> str:
    # Without the registry of engines, which imports them.
    if "://" in settings.store:
        return without_password(settings.store)
    return str(settings.data_dir.absolute())
