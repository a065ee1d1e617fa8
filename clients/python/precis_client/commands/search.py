"""`precis search`: images that match a text, are similar to pictures, or both."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from precis_client.commands.options import (
    as_json_option,
    connected,
    filtered,
    full_ids,
    name_of,
    path_of,
    print_json,
    shown,
)
from precis_client.commands.thumbnails import thumbnail_printer
from precis_client.errors import NotFound
from precis_client.results import Hit
from precis_client.routes import HITS
from precis_client.sync_client import Precis


@click.command()
@click.argument("query", required=False)
@click.option(
    "--image",
    "pictures",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Search by this picture, alone or with a text; repeatable.",
)
@click.option(
    "--like",
    "image_ids",
    metavar="ID",
    multiple=True,
    help="Search by this stored image; repeatable.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=HITS,
    show_default=True,
    help="How many images.",
)
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1),
    help="Only images that match the text with at least this probability.",
)
@filtered
@click.option("--paths", is_flag=True, help="Print paths alone, one a line.")
@click.option(
    "-0",
    "ends_in_null",
    is_flag=True,
    help="As --paths, each ended by NUL, for `xargs -0`.",
)
@click.option(
    "--thumbnails",
    is_flag=True,
    help="Show each image, in a terminal; needs the extra `thumbnails`.",
)
@as_json_option
@connected()
def search(
    precis: Precis,
    query: str | None,
    pictures: tuple[Path, ...],
    image_ids: tuple[str, ...],
    limit: int,
    min_probability: float | None,
    where: dict[str, Any] | None,
    tags: tuple[str, ...],
    paths: bool,
    ends_in_null: bool,
    thumbnails: bool,
    as_json: bool,
) -> None:
    """Find images by what they show, best first: score, id, and path where it is known.

    A text together with pictures finds what is like the pictures and fits the text.
    """
    if thumbnails and (paths or ends_in_null or as_json):
        raise click.UsageError("--thumbnails is not for --paths, -0 or --json.")
    if as_json and (paths or ends_in_null):
        raise click.UsageError("Give --json, --paths or -0.")
    # Before the search: what the terminal cannot do is no reason to wait.
    print_thumbnail = thumbnail_printer() if thumbnails else None
    chosen: dict[str, Any] = {"limit": limit, "where": where, "tags": tags}
    if pictures or image_ids:
        if min_probability is not None:
            raise click.UsageError("--min-probability is for a text alone.")
        ids = full_ids(precis, image_ids)
        hits = precis.search_image(*pictures, image_ids=ids, text=query, **chosen)
    elif query is not None:
        hits = precis.search(query, min_probability=min_probability, **chosen)
    else:
        raise click.UsageError("Give a text, --image FILE or --like ID.")
    if paths or ends_in_null:
        _print_paths(hits, "\0" if ends_in_null else "\n")
        return
    for hit in hits:
        if as_json:
            print_json(hit)
        else:
            path = path_of(hit.metadata)
            place = name_of(hit.metadata) if path is None else shown(path)
            click.echo(f"{hit.score:6.3f}  {hit.id}  {place}".rstrip())
        if print_thumbnail is not None:
            # Of a service that keeps no pictures there is none.
            with suppress(NotFound):
                print_thumbnail(precis.thumbnail(hit.id))


def _print_paths(hits: list[Hit], end: str) -> None:
    unknown = 0
    for hit in hits:
        path = path_of(hit.metadata)
        if path is None:
            unknown += 1
        else:
            click.echo(path + end, nl=False)
    if unknown:
        click.echo(f"{unknown} of {len(hits)} images have no known path.", err=True)
