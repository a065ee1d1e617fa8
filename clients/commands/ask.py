"""`precis ask`: a question about stored images; the answer is printed as it is generated."""

from __future__ import annotations

import click

from clients.commands.options import as_json_option, connected, print_json
from clients.results import Source
from clients.sync_client import Precis


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
    help="Without --image: how many images to search for.",
)
@click.option(
    "--max-tokens", type=click.IntRange(min=1), help="Longest answer, in tokens."
)
@as_json_option
@connected()
def ask(
    precis: Precis,
    question: str,
    image_ids: tuple[str, ...],
    limit: int | None,
    max_tokens: int | None,
    as_json: bool,
) -> None:
    """Ask about the images named, or about those that match the question best."""
    ids = image_ids or None
    if as_json:
        print_json(
            precis.ask(question, image_ids=ids, limit=limit, max_tokens=max_tokens)
        )
        return
    with precis.ask(
        question, image_ids=ids, limit=limit, max_tokens=max_tokens, stream=True
    ) as answer:
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


def _source(source: Source) -> str:
    return source.id if source.score is None else f"{source.id} ({source.score:.3f})"
