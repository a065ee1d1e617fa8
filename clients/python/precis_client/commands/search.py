"""`precis search`: images that match a text, are similar to pictures, or both."""

from __future__ import annotations

from pathlib import Path

import click

from precis_client.calls import HITS
from precis_client.commands.options import (
    as_json_option,
    connected,
    name_of,
    print_json,
)
from precis_client.sync_client import Precis


@click.command()
@click.argument("query", required=False)
@click.option(
    "--image",
    "pictures",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Search by this picture, alone or with a text; may repeat.",
)
@click.option(
    "--like",
    "image_ids",
    metavar="ID",
    multiple=True,
    help="Search by this stored image; may repeat.",
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
    precis: Precis,
    query: str | None,
    pictures: tuple[Path, ...],
    image_ids: tuple[str, ...],
    limit: int,
    as_json: bool,
) -> None:
    """Find images by what they show, best first, with score, id and file name.

    A text together with pictures finds what is like the pictures and fits the text.
    """
    if pictures or image_ids:
        hits = precis.search_image(
            *pictures, image_ids=image_ids, text=query, limit=limit
        )
    elif query is not None:
        hits = precis.search(query, limit=limit)
    else:
        raise click.UsageError("Give a text, --image FILE or --like ID.")
    for hit in hits:
        if as_json:
            print_json(hit)
        else:
            click.echo(f"{hit.score:6.3f}  {hit.id}  {name_of(hit.metadata)}".rstrip())
