"""`precis migrate`: re-encodes images of another model from the pictures that were kept.

Each batch is one transaction, so that after an interruption the command continues where it stopped.
An image of which no picture was kept stays as it is, and is reported.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click
from PIL.Image import Image

from compressor.ports import SummaryModel
from index.backup import back_up
from index.data_folder import (
    COLLECTIONS,
    LibraryFolder,
    check_library,
    collection_names,
    library_folders,
)
from index.library import Library
from index.ports import NewImage, Picture, Record, TokenStore
from index.store.sqlite import SqliteStore
from service.commands.flags import FIRST_PASS, settings_flags, settings_from_flags
from service.commands.progress import CONTINUES, interruptible, progress_bar
from service.errors import NotAMigration, ServiceError
from service.models import Models, load_in_torch
from service.remedies import library_errors
from service.runtime import MIGRATING, check_in_folder, library_of
from service.settings import Settings
from service.use_cases.images import decode

_PAGE = 256
DONE, WITHOUT_PICTURE, DAMAGED = (
    "migrated",
    "without a picture",
    "with a damaged picture",
)
KEPT, DELETED = "already there", "deleted"


@click.command()
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder to fill while the service runs over the old one; run it again to catch up.",
)
@settings_flags("data_dir", *FIRST_PASS)
def migrate(into: Path | None, **flags: object) -> None:
    """Re-encode images of another model from the originals or thumbnails that were kept.

    The images of collections too. Without --into the library is migrated in place, and the service
    must be stopped. With --into the service continues with the old model until one is started over
    the new folder.
    """
    settings = settings_from_flags(flags)
    check_in_folder(settings)
    with interruptible(CONTINUES), library_errors(settings):
        counts = _migrate(into, settings)
    click.echo(f"{counts[DONE]} images migrated.")
    if into is not None:
        click.echo(
            f"{counts[KEPT]} were there already; {counts[DELETED]} have left the library since, "
            "and were deleted."
        )
    if counts[WITHOUT_PICTURE] or counts[DAMAGED]:
        raise click.ClickException(_not_migrated(counts, in_place=into is None))


def _migrate(into: Path | None, settings: Settings) -> Counter[str]:
    """Migrates in place or into a folder; the number of images by outcome."""
    check_library(settings.data_dir)
    models = load_in_torch(settings)
    counts: Counter[str] = Counter()
    with progress_bar("Migrating") as progress:
        bar = progress.add_task("", total=None)
        outcomes = (
            migrated_into(into, models, settings)
            if into
            else _in_place(models, settings)
        )
        for outcome, total in outcomes:
            counts[outcome] += 1
            progress.update(bar, completed=counts.total(), total=total)
    return counts


def _not_migrated(counts: Counter[str], *, in_place: bool) -> str:
    left = counts[WITHOUT_PICTURE] + counts[DAMAGED]
    if in_place:
        fate = "keep the tokens of their old model, and can neither be searched nor asked about"
    else:
        fate = "are not in the new folder"
    return (
        f"{left} images {fate}: {counts[WITHOUT_PICTURE]} have no picture, "
        f"{counts[DAMAGED]} a damaged one. Upload them again."
    )


def _in_place(models: Models, settings: Settings) -> Iterator[tuple[str, int]]:
    total = 0
    for folder in library_folders(settings.data_dir):
        with closing(library_of(models, settings, folder.path)) as library:
            total += library.stats().images
            for outcome in migrated(library, models.as_kept, settings):
                yield outcome, total


def migrated(
    library: Library, model: SummaryModel, settings: Settings
) -> Iterator[str]:
    """Yields the outcome for each image of another model.

    Raises index.errors.LibraryError, CompressorError.
    """
    old = _of_other_models(library)
    while batch := list(islice(old, settings.batch_size)):
        ids = [record.id for record in batch]
        yield from _reencode(
            library, library.get(ids, with_picture=True), model, settings
        )


def migrated_into(
    folder: Path, models: Models, settings: Settings
) -> Iterator[tuple[str, int]]:
    """Brings the libraries in `folder` up to date with those of the settings, in the present model.

    Yields the outcome for each image, and the number of images. The other libraries may be in use.
    Raises NotAMigration, index.errors.LibraryError, CompressorError.
    """
    marker = folder / MIGRATING
    occupied = folder.exists() and any(folder.iterdir())
    if occupied and not marker.exists():
        raise NotAMigration(
            f"{folder} holds something other than a migration; name a new folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f"{folder.name}-copy-"
    ) as scratch:
        copy = Path(scratch) / "library"
        back_up(settings.data_dir, copy)
        sources = library_folders(copy)
        _delete_other_collections(folder, sources)
        total = 0
        for library_folder in sources:
            target = folder / library_folder.path.relative_to(copy)
            with (
                closing(SqliteStore(library_folder.path)) as source,
                closing(library_of(models, settings, target)) as library,
            ):
                total += source.sizes().images
                for outcome in _followed(source, library, models.as_kept, settings):
                    yield outcome, total


def _delete_other_collections(folder: Path, sources: Sequence[LibraryFolder]) -> None:
    """Deletes the collections in `folder` that have left the data folder since the last run."""
    present = {source.collection for source in sources}
    for name in collection_names(folder):
        if name not in present:
            shutil.rmtree(folder / COLLECTIONS / name)


def _followed(
    source: TokenStore, library: Library, model: SummaryModel, settings: Settings
) -> Iterator[str]:
    ids: set[str] = set()
    records = (record for _, record in source.scan())
    while batch := list(islice(records, settings.batch_size)):
        ids.update(record.id for record in batch)
        missing = []
        present = library.get([record.id for record in batch])
        for record, copy in zip(batch, present, strict=True):
            if copy is None or not _is_current(copy, record, library):
                missing.append(record.id)
                continue
            if copy.metadata != record.metadata:
                library.set_metadata(record.id, record.metadata)
            yield KEPT
        rows = source.get_many(missing, with_picture=True)
        yield from _reencode(library, (row and row[1] for row in rows), model, settings)
    for id in [record.id for record in _records(library)]:
        if id not in ids:
            library.delete([id])
            yield DELETED


def _is_current(copy: Record, record: Record, library: Library) -> bool:
    same_content = copy.sha256 == record.sha256
    return same_content and copy.fingerprint == library.fingerprint


@dataclass(frozen=True)
class _Decoded:
    record: Record
    picture: Picture
    image: Image


def _reencode(
    library: Library,
    records: Iterable[Record | None],
    model: SummaryModel,
    settings: Settings,
) -> Iterator[str]:
    """Compresses the pictures kept of the records and stores them, all in one transaction."""
    ready: list[_Decoded] = []
    for record in records:
        if record is None or record.picture is None:
            yield WITHOUT_PICTURE
            continue
        try:
            decoded = decode(
                record.picture.data,
                max_pixels=settings.max_image_pixels,
                max_side_px=settings.image_side_px,
            )
        except ServiceError:
            yield DAMAGED
        else:
            ready.append(_Decoded(record, record.picture, decoded.image))
    if ready:
        summary = model.compress([item.image for item in ready])
        library.put(
            [
                NewImage(
                    sha256=item.record.sha256,
                    fingerprint=model.fingerprint,
                    tokens=tokens,
                    embedding=embedding,
                    width_px=item.record.width_px,
                    height_px=item.record.height_px,
                    metadata=item.record.metadata,
                    picture=item.picture,
                )
                for item, tokens, embedding in zip(
                    ready, summary.tokens, summary.embeddings, strict=True
                )
            ]
        )
    yield from [DONE] * len(ready)


def _of_other_models(library: Library) -> Iterator[Record]:
    """Records of other fingerprints.

    A record that is stored anew meanwhile moves to the end, and is skipped there.
    """
    return (
        record
        for record in _records(library)
        if record.fingerprint != library.fingerprint
    )


def _records(library: Library) -> Iterator[Record]:
    cursor: str | None = None
    while True:
        page = library.page(cursor=cursor, limit=_PAGE)
        yield from page.records
        cursor = page.next_cursor
        if cursor is None:
            return
