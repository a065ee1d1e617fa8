"""`precis watch`: keeps a library in step with a folder."""

from __future__ import annotations

import time
from pathlib import Path

import click

from precis_client.commands.ingest import INTERRUPTED, PATIENT, TIMEOUT_S
from precis_client.commands.options import as_json_option, connected, print_json, shown
from precis_client.errors import ConnectionFailed, ServiceBusy, ServiceFailed, TimedOut
from precis_client.folder_sync import FolderSync, Removal, state_path
from precis_client.ingestion import Outcome
from precis_client.sync_client import Precis

IN_FLIGHT = 8


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--every",
    "pause_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="How often to look.",
)
@click.option(
    "--once", is_flag=True, help="Bring the library into step once, and exit."
)
@as_json_option
@connected(retries=PATIENT, timeout_s=TIMEOUT_S)
def watch(
    precis: Precis, folder: Path, pause_s: float, once: bool, as_json: bool
) -> None:
    """Keep a library in step with FOLDER: store what is added, delete what is removed.

    Only images of files that this command has seen in FOLDER are deleted, and those of which
    another copy is there stay. With --once it exits with 1 if a file could not be stored.
    """
    folder = folder.absolute()
    state_file = state_path(precis.url, precis.collection, folder)
    sync = FolderSync(precis, folder, state_file, most_in_flight=IN_FLIGHT)
    try:
        has_failed = _step(sync, as_json)
        if once:
            raise SystemExit(int(has_failed))
        while True:
            time.sleep(pause_s)
            try:
                _step(sync, as_json)
            except (ConnectionFailed, ServiceBusy, ServiceFailed, TimedOut) as error:
                click.echo(f"{error} Trying again in {pause_s:g} s.", err=True)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _step(sync: FolderSync, as_json: bool) -> bool:
    """Whether a file could not be stored."""
    has_failed = False
    for change in sync.step():
        has_failed |= change.status == "failed"
        if as_json:
            print_json(change)
        else:
            click.echo(_line(change), err=change.status == "failed")
    return has_failed


def _line(change: Outcome | Removal) -> str:
    path = shown(change.path)
    if isinstance(change, Outcome) and change.status == "failed":
        return f"{path}: {shown(change.reason)}"
    return f"{change.status:<8}{change.image_id}  {path}"
