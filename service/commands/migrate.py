"""`precis migrate`: images of another model go once more through the present one, from the pictures
that were kept.

Knows nothing of HTTP. Batch by batch, each in one transaction: broken off, it goes on where it
stopped. An image of which no picture was kept stays as it is, and is told.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compressor.ports import SummaryModel
from index.backup import back_up
from index.library import Library
from index.ports import NewImage, Picture, Record, TokenStore
from index.registry import STORES
from service.commands.flags import settings_from_flags
from service.commands.library import data_dir_option, told
from service.errors import NotAMigration, ServiceError
from service.models import Models, model_factory
from service.runtime import MIGRATING, library_of
from service.settings import Settings
from service.use_cases.images import decode

_PAGE = 256
DONE, WITHOUT_PICTURE, DAMAGED = "migrated", "without a picture", "with a damaged picture"
KEPT, DELETED = "as they were", "deleted"


@click.command()
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder to fill while the service goes on over the old one; run again, it catches up.",
)
@data_dir_option
def migrate(into: Path | None, **given: object) -> None:
    """Make tokens and embeddings anew for images of another model, from originals or thumbnails
    that were kept.

    In place the service must be down. With --into it goes on: the old model answers searches and
    questions until a service is started over the new folder.
    """
    settings = settings_from_flags(given)
    columns = (TextColumn("Migrating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    counted: Counter[str] = Counter()
    with told():
        models = model_factory(settings.model)(settings)
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("", total=None)
            outcomes = (
                _in_place(models, settings)
                if into is None
                else migrated_into(into, models, settings)
            )
            for outcome, total in outcomes:
                counted[outcome] += 1
                progress.update(bar, completed=counted.total(), total=total)
    click.echo(f"{counted[DONE]} images migrated.")
    if into is not None:
        click.echo(
            f"{counted[KEPT]} were there already, {counted[DELETED]} are gone from the library and were deleted."
        )
    left = counted[WITHOUT_PICTURE] + counted[DAMAGED]
    if left:
        where = "stay with the model that made them, and cannot be searched or asked about"
        raise click.ClickException(
            f"{left} images {where if into is None else 'are left behind'}: "
            f"{counted[WITHOUT_PICTURE]} have no picture, {counted[DAMAGED]} a damaged one. Add them again."
        )


def _in_place(models: Models, settings: Settings) -> Iterator[tuple[str, int]]:
    with closing(library_of(models, settings, settings.data_dir)) as library:
        total = library.stats().images
        for outcome in migrated(library, models.summary, settings):
            yield outcome, total


def migrated(library: Library, model: SummaryModel, settings: Settings) -> Iterator[str]:
    """Yields what became of each image of another model. Raises index.errors.LibraryError,
    CompressorError.
    """
    old = _of_other_models(library)
    while batch := list(islice(old, settings.batch_size)):
        yield from _made_anew(
            library,
            library.get([record.id for record in batch], with_picture=True),
            model,
            settings,
        )


def migrated_into(folder: Path, models: Models, settings: Settings) -> Iterator[tuple[str, int]]:
    """Brings the library in `folder` to what the one of the settings holds at this moment, made by
    the present model.

    Yields what became of each image, and how many there are. The other library may be in use
    meanwhile. Raises NotAMigration, index.errors.LibraryError, CompressorError.
    """
    mark = folder / MIGRATING
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise NotAMigration(
            f"{folder} holds something that is not a migration under way; choose a new folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-copy-") as scratch:
        copy = Path(scratch) / "library"
        back_up(settings.data_dir, copy)
        with (
            closing(STORES["sqlite"].open(copy)) as source,
            closing(library_of(models, settings, folder)) as library,
        ):
            total = source.sizes().images
            for outcome in _followed(source, library, models.summary, settings):
                yield outcome, total


def _followed(
    source: TokenStore, library: Library, model: SummaryModel, settings: Settings
) -> Iterator[str]:
    seen: set[str] = set()
    records = (record for _, record in source.scan())
    while batch := list(islice(records, settings.batch_size)):
        seen.update(record.id for record in batch)
        missing = []
        for record, there in zip(batch, library.get([record.id for record in batch]), strict=True):
            if there is None or (there.sha256, there.fingerprint) != (
                record.sha256,
                library.fingerprint,
            ):
                missing.append(record.id)
            else:
                if there.metadata != record.metadata:
                    library.set_metadata(record.id, record.metadata)
                yield KEPT
        found = (item and item[1] for item in source.get_many(missing, with_picture=True))
        yield from _made_anew(library, found, model, settings)
    for id in [record.id for record in _records(library)]:
        if id not in seen:
            library.delete([id])
            yield DELETED


def _made_anew(
    library: Library, records: Iterable[Record | None], model: SummaryModel, settings: Settings
) -> Iterator[str]:
    """Compresses the kept pictures of records and puts them, all in one transaction."""
    ready: list[tuple[Record, Picture]] = []
    images = []
    for record in records:
        if record is None or record.picture is None:
            yield WITHOUT_PICTURE
            continue
        try:
            pixels, side = settings.max_image_pixels, settings.image_side_px
            images.append(decode(record.picture.data, max_pixels=pixels, max_side_px=side).image)
        except ServiceError:
            yield DAMAGED
        else:
            ready.append((record, record.picture))
    if ready:
        summary = model.compress(images)
        library.put(
            [
                NewImage(
                    sha256=record.sha256,
                    fingerprint=model.fingerprint,
                    tokens=tokens,
                    embedding=embedding,
                    width_px=record.width_px,
                    height_px=record.height_px,
                    metadata=record.metadata,
                    picture=picture,
                )
                for (record, picture), tokens, embedding in zip(
                    ready, summary.tokens, summary.embeddings, strict=True
                )
            ]
        )
    yield from [DONE] * len(ready)


def _of_other_models(library: Library) -> Iterator[Record]:
    """Records of other fingerprints; those that are put anew meanwhile go to the end and are passed
    over there.
    """
    return (record for record in _records(library) if record.fingerprint != library.fingerprint)


def _records(library: Library) -> Iterator[Record]:
    cursor: str | None = None
    while True:
        page = library.page(cursor=cursor, limit=_PAGE)
        yield from page.records
        cursor = page.next_cursor
        if cursor is None:
            return
