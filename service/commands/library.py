"""Commands on a data folder (backup, restore, fsck, recode) and training of codecs. They work on
files, not through the service.

Knows nothing of HTTP. A backup may be taken while the service runs; the others want the folder for
themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compressor.errors import CompressorError
from index.backup import back_up, restore
from index.codecs.train import Vocabulary, train_on_images, write_state
from index.errors import LibraryError
from index.fsck import Finding, check_folder
from service.commands.flags import settings_from_flags
from service.errors import ServiceError
from service.models import model_factory
from service.runtime import library_of

data_dir_option = click.option("--data-dir", help="Folder of the library. [env: PRECIS_DATA_DIR]")
_new_folder = click.Path(path_type=Path)
_folder = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("backup")
@click.argument("target", type=_new_folder)
@data_dir_option
def backup_command(target: Path, **given: Any) -> None:
    """Copy the library to the new folder TARGET, also while the service runs."""
    with told():
        back_up(settings_from_flags(given).data_dir, target)
    click.echo(f"Backed up to {target}.")


@click.command("restore")
@click.argument("backup", type=_folder)
@data_dir_option
def restore_command(backup: Path, **given: Any) -> None:
    """Make the library of a BACKUP in the data folder, which must hold none."""
    settings = settings_from_flags(given)
    with told():
        restore(backup, settings.data_dir)
    click.echo(f"Restored to {settings.data_dir}.")


@click.command()
@click.option(
    "--repair",
    is_flag=True,
    help="Mend what can be mended; damaged records are put aside in damaged/.",
)
@data_dir_option
def fsck(repair: bool, **given: Any) -> None:
    """Check every byte of the library. Ends with 1 if something is wrong and stays so."""
    with told():
        report = check_folder(settings_from_flags(given).data_dir, repair=repair)
    for finding in report.findings:
        click.echo(_line(finding))
    click.echo(
        f"{report.images} images looked at: {'all is well' if report.sound else 'the library is damaged'}."
    )
    if not report.sound:
        raise SystemExit(1)


@click.command()
@click.argument("codec")
@click.option("--codec-state", help="File with the trained state of a codec that needs one.")
@data_dir_option
def recode(**given: Any) -> None:
    """Write the tokens of all images in another CODEC, in place. Broken off, it goes on where it
    stopped.
    """
    settings = settings_from_flags(given)
    columns = (TextColumn("Recoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    recoded = 0
    with told():
        models = model_factory(settings.model)(settings)
        with (
            closing(library_of(models, settings, settings.data_dir)) as library,
            Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ):
            bar = progress.add_task("", total=None)
            for step in library.recode():
                progress.update(bar, completed=step.processed, total=step.total)
                recoded = step.recoded
    click.echo(f"{recoded} images recoded to {settings.codec}.")


@click.command("train-codec")
@click.argument("kind")
@click.argument("tokens", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("state", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--vocabulary",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Words of the model, as `precis train vocabulary` writes them; a mixture needs them.",
)
def train_codec_command(kind: str, tokens: Path, state: Path, vocabulary: Path | None) -> None:
    """Train the codec KIND and write its trained STATE, for --codec-state.

    KIND is a family and the bytes a token (pq72, opq72, rq32), or mix and the words a token
    (mix16). TOKENS is a .npy file of float32 (images, K, D) as the model's first pass makes them; a
    tenth of the images is kept back to tell what the codec loses. A STATE called KIND.faiss, or
    KIND.npz for a mixture, in a folder of adapters is their codec.
    """
    with told():
        try:
            words = Vocabulary.read(vocabulary) if vocabulary else None
            codec, lost = train_on_images(kind, np.load(tokens, allow_pickle=False), words)
            write_state(codec, state)
        except (OSError, EOFError, ValueError) as error:
            raise click.ClickException(f"{kind} was not trained: {error}") from error
    click.echo(f"{codec.name}: {100 * lost:.2f} % of the variance of unseen images is lost.")


COMMANDS = (backup_command, restore_command, fsck, recode, train_codec_command)


@contextmanager
def told() -> Iterator[None]:
    """The border to the user: an error of ours becomes one line and the exit code 1."""
    try:
        yield
    except (LibraryError, CompressorError, ServiceError) as error:
        raise click.ClickException(str(error)) from error


def _line(finding: Finding) -> str:
    subject = finding.part if finding.id is None else f"{finding.part} of {finding.id}"
    return f"{subject}: {finding.what}{' (repaired)' if finding.repaired else ''}"
