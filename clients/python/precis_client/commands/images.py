"""`precis list`, `precis show` and `precis delete`: the stored images."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

from precis_client.commands.options import (
    as_json_option,
    connected,
    filtered,
    full_ids,
    name_of,
    print_json,
    shown,
)
from precis_client.errors import NotFound
from precis_client.image_text import heaviest_words
from precis_client.routes import ListOrder
from precis_client.sync_client import Precis


@click.command("list")
@click.option("--limit", type=click.IntRange(min=1), help="How many. [default: all]")
@click.option(
    "--order",
    type=click.Choice(["oldest", "newest", "taken"]),
    default="oldest",
    show_default=True,
    help="First those stored first or last, or those taken last (without undated ones).",
)
@filtered
@as_json_option
@connected()
def list_images(
    precis: Precis,
    limit: int | None,
    order: ListOrder,
    where: dict[str, Any] | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """List images, with id, size, bytes of tokens, file name."""
    images = precis.images(order=order, where=where, tags=tags)
    for image in islice(images, limit):
        if as_json:
            print_json(image)
        else:
            size = f"{image.width_px}x{image.height_px}"
            columns = f"{image.id}  {size:>11}  {image.tokens.bytes:>7} B"
            click.echo(f"{columns}  {name_of(image.metadata)}".rstrip())


@click.command()
@click.argument("image_id", metavar="ID")
@as_json_option
@connected()
def show(precis: Precis, image_id: str, as_json: bool) -> None:
    """Show the record of an image. The first digits of its ID are enough where unique."""
    (whole_id,) = full_ids(precis, [image_id])
    image = precis.image(whole_id)
    if as_json:
        print_json(image)
        return
    tokens = image.tokens
    added = datetime.fromtimestamp(image.created_at_ms / 1000, UTC).astimezone()
    facts = {
        "id": image.id,
        "sha256": image.sha256,
        "size": f"{image.width_px}x{image.height_px} px",
        "tokens": f"{tokens.count} x {tokens.dim}, {tokens.codec}, {tokens.bytes} bytes",
        "model": f"{image.model or 'unknown'}, fingerprint {image.fingerprint}",
        "mode": image.mode or "unknown",
        "added": added.isoformat(" ", "seconds"),
        "words": ", ".join(map(shown, heaviest_words(image))) or "unknown",
        "metadata": json.dumps(image.metadata, ensure_ascii=False),
    }
    for name, value in facts.items():
        click.echo(f"{name:<10}{value}")


@click.command()
@click.argument("image_ids", metavar="ID...", nargs=-1, required=True)
@connected()
def delete(precis: Precis, image_ids: tuple[str, ...]) -> None:
    """Delete images. The first digits of an ID are enough where unique.

    An unknown id does not stop the others, but exits with 1.
    """
    unknown = False
    for image_id in full_ids(precis, image_ids):
        try:
            precis.delete(image_id)
        except NotFound as error:
            click.echo(str(error), err=True)
            unknown = True
        else:
            click.echo(f"deleted {image_id}")
    if unknown:
        raise SystemExit(1)
