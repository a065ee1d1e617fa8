"""The pictures in files and folders, and what is told of a file with its picture."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from precis_client.uploads import unicode_name

# Only files with these suffixes are taken from a folder. A file named by itself is always sent, for
# the service decides by content.
SUFFIXES = frozenset(
    {
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".heic",
        ".heif",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".png",
        ".tif",
        ".tiff",
        ".webp",
    }
)
UNREADABLE_FOLDERS = "unreadable folders"
LINKED_FOLDERS = "links to folders"

# Keys of the metadata.
FILENAME = "filename"
PATH = "path"
FOLDER = "folder"
MODIFIED_AT = "modified_at"


def picture_paths(
    roots: Iterable[Path], passed_over: Counter[str] | None = None
) -> Iterator[Path]:
    """The files in `roots`, and the pictures in the folders in `roots`, sorted within a folder.

    What is passed over in a folder is counted in `passed_over`, by the reason.
    """
    counts = Counter() if passed_over is None else passed_over

    def note_unreadable(_: OSError) -> None:
        counts[UNREADABLE_FOLDERS] += 1

    for root in roots:
        if not root.is_dir():
            yield root
            continue
        for folder, folders, files in os.walk(root, onerror=note_unreadable):
            hidden = [name for name in (*folders, *files) if name.startswith(".")]
            counts["hidden"] += len(hidden)
            # Not followed: a link may lead back to where the walk began.
            links = [name for name in folders if Path(folder, name).is_symlink()]
            links = sorted(set(links) - set(hidden))
            counts[LINKED_FOLDERS] += len(links)
            folders[:] = sorted(set(folders) - set(hidden) - set(links))
            for name in sorted(set(files) - set(hidden)):
                path = Path(folder, name)
                reason = _reason_to_pass_over(path)
                if reason is None:
                    yield path
                else:
                    counts[reason] += 1


def _reason_to_pass_over(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        return f"{suffix} files" if suffix else "files without a suffix"
    # Reading a pipe would wait for its writer. A link to nowhere is not one: it fails, by name.
    is_special = path.exists() and not path.is_file()
    return "pipes and devices" if is_special else None


def file_metadata(path: Path) -> dict[str, Any]:
    """Name, path, folder and time of change (UTC) of a file. Raises OSError.

    A path that the service would change, since it is not in Unicode's form NFC, is left out.
    """
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    metadata = {
        FILENAME: unicode_name(path.name),
        MODIFIED_AT: changed.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    # As the user knows it: links are not followed.
    whole = os.path.abspath(path)  # noqa: PTH100
    if unicode_name(whole) == whole and unicodedata.is_normalized("NFC", whole):
        metadata |= {PATH: whole, FOLDER: str(Path(whole).parent)}
    return metadata
