"""`precis export library` and `precis import`: libraries as files, between kinds of stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click

from index.collections import Collections
from index.errors import ExportDamaged
from index.exports.reader import Export, ImportedBatch, Shard, import_records
from index.exports.writer import ExportProgress, export_libraries
from index.library import Library
from index.registry import store_engine
from service.commands.flags import FIRST_PASS, settings_flags, settings_from_flags
from service.commands.progress import CONTINUES, interruptible, progress_bar
from service.errors import InvalidOption
from service.models import Models, load_in_torch
from service.remedies import library_errors
from service.runtime import check_codec, library_of, store_place
from service.settings import Settings


@click.command("library")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--originals",
    is_flag=True,
    help="Export the uploaded files too, where the library keeps them.",
)
@settings_flags("data_dir", "store")
def export_library(target: Path, originals: bool, **flags: Any) -> None:
    """Export the library and its collections into the new folder TARGET, for `precis import`.

    Tokens, embeddings, metadata and thumbnails are exported, from a data folder or a database. No
    service may have the data folder open.
    """
    settings = settings_from_flags(flags)
    place = store_place(settings)
    last = ExportProgress(exported=0, damaged=0, total=0)
    with (
        interruptible(f"There is no {target}; nothing was exported."),
        library_errors(settings),
        progress_bar("Exporting") as progress,
    ):
        bar = progress.add_task("", total=None)
        for last in export_libraries(place, target, originals=originals):
            progress.update(bar, completed=last.exported, total=last.total)
    click.echo(f"{last.exported} images exported to {target}.")
    if last.damaged:
        raise click.ClickException(
            f"{last.damaged} images are damaged, as said above; see `precis fsck`."
        )


@click.command("import")
@click.argument("export", type=click.Path(path_type=Path, exists=True, file_okay=False))
@settings_flags("data_dir", "store", "index", "codec", "codec_state", *FIRST_PASS)
def import_command(export: Path, **flags: Any) -> None:
    """Import an EXPORT into the library and its collections, in a data folder or a database.

    Images that are there already stay as they are, so that after an interruption the same command
    continues. The images must have been made by the same model. No service may have the data folder
    open.
    """
    settings = settings_from_flags(flags)
    if settings.data_dir.resolve().is_relative_to(export.resolve()):
        raise InvalidOption(
            f"{settings.data_dir.absolute()} is the export itself: --data-dir (or PRECIS_DATA_DIR)"
            " names the folder of the library that the images are for."
        )
    read = Export(export)
    counts: Counter[str] = Counter()
    damaged: list[str] = []
    total = sum(model.images for model in read.models)
    with (
        interruptible(CONTINUES),
        library_errors(settings),
        progress_bar("Importing") as progress,
    ):
        # Before the model is loaded, which takes longer.
        place = store_place(settings)
        store_engine(place.setting).check(place)
        check_codec(settings)
        models = load_in_torch(settings)
        read.check_model(models.summary.fingerprint)
        bar = progress.add_task("", total=total)
        for outcome in _imported(read, models, settings):
            if isinstance(outcome, ExportDamaged):
                damaged.append(str(outcome))
                continue
            counts["created"] += outcome.created
            counts["existing"] += outcome.existing
            counts["others"] += outcome.of_other_models
            progress.update(bar, completed=counts.total())
    click.echo(
        f"{counts['created']} images imported; {counts['existing']} were there already."
    )
    if damaged or counts["others"]:
        raise click.ClickException("\n".join(_complaints(damaged, counts["others"])))


def _complaints(damaged: list[str], of_other_models: int) -> Iterator[str]:
    for line in damaged:
        yield f"{line}; its images were not imported. Copy or export it again."
    if of_other_models:
        yield (
            f"{of_other_models} images were made by another model and were not imported;"
            " `precis migrate` encodes them anew in the library they come from."
        )


def _imported(
    export: Export, models: Models, settings: Settings
) -> Iterator[ImportedBatch | ExportDamaged]:
    """Each committed batch, and the error of each shard that is damaged."""
    place = store_place(settings)
    with ExitStack() as stack:
        # First and for all the time: it holds the data folder.
        main = library_of(models, settings, settings.data_dir)
        stack.enter_context(closing(main))
        collections = Collections(
            settings.data_dir,
            lambda folder: library_of(models, settings, folder, folder.name),
            store_engine(place.setting).collections(place),
        )
        stack.enter_context(closing(collections))
        for exported in export.libraries:
            name = exported.collection
            library = main if name is None else _collection(collections, name)
            for state in export.codec_states(exported):
                library.add_codec(state)
            for shard in exported.shards:
                yield from _imported_shard(export, shard, library)


def _collection(collections: Collections, name: str) -> Library:
    if name in collections.names():
        return collections.get(name)
    return collections.create(name)


def _imported_shard(
    export: Export, shard: Shard, library: Library
) -> Iterator[ImportedBatch | ExportDamaged]:
    try:
        yield from import_records(library, export.records(shard))
    except ExportDamaged as error:
        yield error
