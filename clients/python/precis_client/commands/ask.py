"""`precis ask`: a question about stored images; the answer is printed as it is generated."""

from __future__ import annotations

import json
from typing import Any, TextIO

import click

from precis_client.commands.options import (
    as_json_option,
    connected,
    filtered,
    full_ids,
    print_json,
)
from precis_client.results import Source
from precis_client.sync_client import Precis


@click.command()
@click.argument("question")
@click.option(
    "--image",
    "image_ids",
    multiple=True,
    metavar="ID",
    help="Ask about this image; repeatable.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Without --image: how many images to answer from.",
)
@click.option(
    "--max-tokens", type=click.IntRange(min=1), help="Longest answer, in tokens."
)
@click.option(
    "--library",
    is_flag=True,
    help="Ask the whole library: answer from several images, and cite those that agree.",
)
@click.option("--yes-no", is_flag=True, help="The answer is Yes or No.")
@click.option("--number", is_flag=True, help="The answer is a number.")
@click.option(
    "--choice", "options", multiple=True, help="The answer is one of these; repeatable."
)
@click.option(
    "--schema",
    type=click.File(encoding="utf-8"),
    help="The answer is JSON as the JSON schema in this file says.",
)
@filtered
@as_json_option
@connected()
def ask(
    precis: Precis,
    question: str,
    image_ids: tuple[str, ...],
    limit: int | None,
    max_tokens: int | None,
    library: bool,
    yes_no: bool,
    number: bool,
    options: tuple[str, ...],
    schema: TextIO | None,
    where: dict[str, Any] | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Ask about the images named, or about those that match the question best."""
    if library and image_ids:
        raise click.UsageError("Give --library or --image.")
    if image_ids and (limit is not None or where is not None or tags):
        raise click.UsageError("--limit, --where and --tag are not for --image.")
    chosen: dict[str, Any] = {
        "image_ids": full_ids(precis, image_ids) or None,
        "limit": limit,
        "max_tokens": max_tokens,
        "format": _format(yes_no, number, options, schema),
        "where": where,
        "tags": tags,
        "library": library,
    }
    if as_json:
        print_json(precis.ask(question, **chosen))
        return
    with precis.ask(question, **chosen, stream=True) as answer:
        started = False
        for piece in answer:
            click.echo(piece if started else piece.lstrip(), nl=False)
            started = started or bool(piece.strip())
        click.echo()
    if answer.answer is not None:
        sources = [_source(source) for source in answer.answer.images]
        click.echo(f"From {', '.join(sources)}", err=True)
        if answer.answer.unsure:
            click.echo(
                f"Unsure: the confidence is {answer.answer.confidence:.2f}.", err=True
            )


def _format(
    yes_no: bool, number: bool, options: tuple[str, ...], schema: TextIO | None
) -> dict[str, Any] | None:
    formats: list[dict[str, Any]] = []
    if yes_no:
        formats.append({"type": "yes_no"})
    if number:
        formats.append({"type": "number"})
    if options:
        formats.append({"type": "choice", "options": options})
    if schema is not None:
        try:
            formats.append({"type": "json_schema", "schema": json.load(schema)})
        except ValueError as error:
            raise click.UsageError(f"{schema.name} is not JSON: {error}") from error
    if len(formats) > 1:
        raise click.UsageError("Give one of --yes-no, --number, --choice and --schema.")
    return formats[0] if formats else None


def _source(source: Source) -> str:
    shown = source.id if source.score is None else f"{source.id} ({source.score:.3f})"
    return f"{shown} [cited]" if source.cited else shown
