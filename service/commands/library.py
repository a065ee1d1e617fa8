"""Commands on a data folder (backup, restore, fsck, recode), and the training of codecs.

They work on files, not through the service. A backup may be taken while the service runs; the other
commands need the folder for themselves.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np

from index.backup import back_up, restore
from index.codecs.train import Vocabulary, train_on_images, write_state
from index.data_folder import check_library, library_folders
from index.errors import BackupDamaged
from index.fsck import Finding, check_folder
from index.ports import RecodeProgress
from service.commands.flags import FIRST_PASS, settings_flags, settings_from_flags
from service.commands.progress import CONTINUES, interruptible, progress_bar
from service.errors import LibraryUnusable
from service.models import load_in_torch
from service.remedies import library_errors
from service.runtime import check_codec, check_in_folder, library_of
from service.settings import Settings

_new_folder = click.Path(path_type=Path)
_folder = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("backup")
@click.argument("target", type=_new_folder)
@settings_flags("data_dir")
def backup_command(target: Path, **flags: Any) -> None:
    """Copy the library and its collections into the new folder TARGET.

    The service may run meanwhile.
    """
    settings = settings_from_flags(flags)
    check_in_folder(settings)
    with library_errors(settings):
        back_up(settings.data_dir, target)
    click.echo(f"Backed up to {target}.")


@click.command("restore")
@click.argument("backup", type=_folder)
@settings_flags("data_dir")
def restore_command(backup: Path, **flags: Any) -> None:
    """Restore a BACKUP, collections included, into the data folder, which must hold no library."""
    settings = settings_from_flags(flags)
    check_in_folder(settings)
    with library_errors(settings):
        try:
            restore(backup, settings.data_dir)
        except BackupDamaged as error:
            raise LibraryUnusable(
                f"{backup.absolute()}: {error}. Nothing was restored; use another backup."
            ) from error
    click.echo(f"Restored to {settings.data_dir}.")


@click.command()
@click.option(
    "--repair",
    is_flag=True,
    help="Repair what can be repaired; move damaged records to damaged/.",
)
@settings_flags("data_dir")
def fsck(repair: bool, **flags: Any) -> None:
    """Check every byte of the library and its collections. Exits with 1 if damage remains."""
    settings = settings_from_flags(flags)
    check_in_folder(settings)
    with library_errors(settings):
        report = check_folder(settings.data_dir, repair=repair)
    for finding in report.findings:
        click.echo(_line(finding))
    verdict = "no damage" if report.sound else "the library is damaged"
    click.echo(f"{report.images} images checked: {verdict}.")
    if not report.sound:
        raise click.ClickException(_advice(settings.data_dir, repair))


@click.command()
@click.argument("codec")
@settings_flags("codec_state", "data_dir", *FIRST_PASS)
def recode(**flags: Any) -> None:
    """Convert the tokens of all images, of every collection, to another CODEC, in place.

    After an interruption the same command continues where it stopped.
    """
    settings = settings_from_flags(flags)
    check_in_folder(settings)
    with interruptible(CONTINUES), library_errors(settings):
        recoded = _recode(settings)
    click.echo(f"{recoded} images recoded to {settings.codec}.")


def _recode(settings: Settings) -> int:
    """Recodes all libraries; how many images were in another codec."""
    check_library(settings.data_dir)
    # Before the model is loaded, which takes longer.
    check_codec(settings)
    models = load_in_torch(settings)
    recoded = 0
    with progress_bar("Recoding") as progress:
        for folder in library_folders(settings.data_dir):
            with closing(library_of(models, settings, folder.path)) as library:
                bar = progress.add_task(folder.collection or "", total=None)
                # The last step of a library counts all of its images.
                step = RecodeProgress(processed=0, total=0, recoded=0)
                for step in library.recode():
                    progress.update(bar, completed=step.processed, total=step.total)
                recoded += step.recoded
    return recoded


@click.command("train-codec")
@click.argument("kind")
@click.argument("tokens", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("state", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--vocabulary",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The model's words, as `precis train vocabulary` writes them; a mixture codec needs them.",
)
def train_codec_command(
    kind: str, tokens: Path, state: Path, vocabulary: Path | None
) -> None:
    """Train the codec KIND on TOKENS and write its trained STATE, a file for --codec-state.

    KIND is a family and its bytes a token (pq72, opq72, rq32), or mix and its words a token
    (mix16). TOKENS is a .npy file of float32 (images, K, D), summary tokens of the first pass. A
    tenth of the images is held out to measure what the codec loses. A folder of adapters may hold
    the STATE of its own codec, named KIND.faiss, or KIND.npz for a mixture.
    """
    try:
        words = Vocabulary.read(vocabulary) if vocabulary else None
        codec, lost = train_on_images(kind, np.load(tokens, allow_pickle=False), words)
        write_state(codec, state)
    except (OSError, EOFError, ValueError) as error:
        raise click.ClickException(f"{kind} was not trained: {error}") from error
    click.echo(
        f"{codec.name} loses {100 * lost:.2f} % of the variance of held-out images."
    )


def _advice(folder: Path, repair: bool) -> str:
    """What to do about a library that is damaged, or still is after a repair."""
    if repair:
        return (
            f"{folder.absolute()}: this damage cannot be repaired. `precis restore` puts a backup"
            " into a new folder."
        )
    return (
        f"{folder.absolute()}: `precis fsck --repair` repairs what can be repaired, and puts"
        " damaged records aside."
    )


def _line(finding: Finding) -> str:
    subject = finding.part if finding.id is None else f"{finding.part} of {finding.id}"
    if finding.collection is not None:
        subject += f" in collection {finding.collection}"
    suffix = " (repaired)" if finding.repaired else ""
    return f"{subject}: {finding.what}{suffix}"
