"""The files beside the records that every process needs: trained codecs, descriptions of models."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Protocol

from index.data_folder import files_to_copy
from index.errors import StoreDamaged
from index.files import store_errors, write_bytes


class KeepsFiles(Protocol):
    """A store that several processes share, with the files that all of them need."""

    def file_names(self) -> list[str]:
        """The names of the files beside the records. Raises StoreError."""
        ...

    def file(self, name: str) -> bytes:
        """The bytes of a file beside the records, which must be there. Raises StoreError."""
        ...

    def keep_file(self, name: str, data: bytes) -> None:
        """Keeps a file beside the records, unless there is one of this name. Raises StoreError."""
        ...


def exchange_files(store: KeepsFiles, folder: Path) -> None:
    """Gives the store the files of the folder that it lacks, and the folder those of the store.

    The store keeps what it has under a name. Raises StoreError.
    """
    names = set(store.file_names())
    present: set[str] = set()
    for path in files_to_copy(folder, databases=False):
        name = path.relative_to(folder).as_posix()
        present.add(name)
        if name not in names:
            store.keep_file(name, path.read_bytes())
    for name in sorted(names - present):
        path = folder / _checked(name)
        with store_errors(f"{name} cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, store.file(name))


def _checked(name: str) -> PurePosixPath:
    """A name that leads to no other place than the folders of such files."""
    path = PurePosixPath(name)
    is_ours = len(path.parts) == 2 and path.parts[0] in ("codecs", "makers")
    if not is_ours or path.name.startswith("."):
        raise StoreDamaged(f"the store holds a file with the name {name!r}")
    return path
