"""A library with some images, its export, and the import of that."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from index.exports.reader import Export, import_records
from index.exports.writer import ExportProgress, export_libraries
from index.library import Library
from index.registry import StorePlace
from tests.index.libraries import opened
from tests.index.samples import make_images


def exported(
    data: Path, target: Path, *, originals: bool = False, store: str = "sqlite"
) -> ExportProgress:
    """Exports the libraries of a data folder, or a store elsewhere; where the export ended."""
    place = StorePlace(data, store)
    *_, last = export_libraries(place, target, originals=originals)
    return last


def imported(export: Export, library: Library, collection: str | None = None) -> int:
    """Imports one library of an export; how many images were new."""
    (files,) = [part for part in export.libraries if part.collection == collection]
    for state in export.codec_states(files):
        library.add_codec(state)
    created = 0
    for shard in files.shards:
        for batch in import_records(library, export.records(shard)):
            created += batch.created
    return created


def read_all(folder: Path) -> int:
    """How many records an export has, all of them read."""
    export = Export(folder)
    shards = [shard for library in export.libraries for shard in library.shards]
    return sum(len(list(export.records(shard))) for shard in shards)


def fill(folder: Path, numbers: Iterable[int]) -> Path:
    """A library with these images in the folder."""
    with opened(folder) as library:
        library.put(make_images(numbers))
    return folder
