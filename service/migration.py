"""`precis migrate`: images of another model go once more through the present one, from the pictures that were kept.

Knows nothing of HTTP. Batch by batch, each in one transaction: broken off, it goes on where it stopped. An image of
which no picture was kept stays as it is, and is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compressor.ports import SummaryModel
from index.library import Library, NewImage
from index.ports import Picture, Record
from service.engines import model_factory
from service.errors import ServiceError
from service.flags import settings_from_flags
from service.maintenance import data_dir_option, told
from service.pictures import decode
from service.runtime import library_of
from service.settings import Settings

_PAGE = 256
DONE, WITHOUT_PICTURE, DAMAGED = "migrated", "without a picture", "with a damaged picture"


@click.command()
@data_dir_option
def migrate(**given: object) -> None:
    """Make tokens and embeddings anew for images of another model, from originals or thumbnails that were kept."""
    settings = settings_from_flags(given)
    columns = (TextColumn("Migrating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    counted: Counter[str] = Counter()
    with told():
        models = model_factory(settings.model)(settings)
        with (
            closing(library_of(models, settings, settings.data_dir)) as library,
            Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ):
            bar = progress.add_task("", total=library.stats().images)
            for outcome in migrated(library, models.summary, settings):
                counted[outcome] += 1
                progress.update(bar, completed=counted.total())
    click.echo(f"{counted[DONE]} images migrated.")
    left = counted[WITHOUT_PICTURE] + counted[DAMAGED]
    if left:
        raise click.ClickException(
            f"{left} images stay with the model that made them, and cannot be searched or asked about: "
            f"{counted[WITHOUT_PICTURE]} have no picture, {counted[DAMAGED]} a damaged one. Add them again."
        )


def migrated(library: Library, model: SummaryModel, settings: Settings) -> Iterator[str]:
    """Yields what became of each image of another model. Raises index.errors.IndexingError, CompressorError."""
    old = _of_other_models(library)
    while batch := list(islice(old, settings.batch_size)):
        records = library.get([record.id for record in batch], with_picture=True)
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
    """Records of other fingerprints; those that are put anew meanwhile go to the end and are passed over there."""
    cursor: str | None = None
    while True:
        page = library.list(cursor=cursor, limit=_PAGE)
        yield from (record for record in page.records if record.fingerprint != library.fingerprint)
        cursor = page.next_cursor
        if cursor is None:
            return
