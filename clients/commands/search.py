"""`precis search`: images that match a text, or are similar to a picture."""

from __future__ import annotations

from pathlib import Path

import click

from clients.calls import HITS
from clients.commands.options import as_json_option, connected, name_of, print_json
from clients.sync_client import Precis


@click.command()
@click.argument("query", required=False)
@click.option(
    "--image",
    "picture",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Search by this picture instead of a text.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=HITS,
    show_default=True,
    help="How many images.",
)
@as_json_option
@connected()
def search(
    precis: Precis, query: str | None, picture: Path | None, limit: int, as_json: bool
) -> None:
    """Find images by what they show, best first, with score, id and file name."""
    if query is not None and picture is None:
        hits = precis.search(query, limit=limit)
    elif picture is not None and query is None:
        hits = precis.search_image(picture, limit=limit)
    else:
        raise click.UsageError("Give a text or --image FILE.")
    for hit in hits:
        if as_json:
            print_json(hit)
        else:
            click.echo(f"{hit.score:6.3f}  {hit.id}  {name_of(hit.metadata)}".rstrip())
