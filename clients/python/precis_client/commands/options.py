"""Common parts of the commands: connection to the service, filters, ids, and what is printed."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import click

from precis_client import environment
from precis_client.calls import TIMEOUT_S
from precis_client.picture_paths import FILENAME, PATH
from precis_client.retries import RetryPolicy
from precis_client.sync_client import Precis
from precis_client.uploads import ID_LENGTH

Command = Callable[..., None]

as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object a line."
)


_url_option = click.option(
    "--url",
    default=environment.DEFAULT_URL,
    envvar=environment.URL,
    show_default=True,
    show_envvar=True,
    help="Address of the service.",
)
_api_key_option = click.option(
    "--api-key",
    envvar=environment.API_KEY,
    show_envvar=True,
    help="Key of the service, if it has one.",
)
_collection_option = click.option(
    "--collection", help="Collection to work in. [default: the library without a name]"
)


def connection_options(command: Command) -> Command:
    """Decorator: adds --url, --api-key and --collection, as arguments of these names."""
    return _service_options(_collection_option(command))


def _service_options(command: Command) -> Command:
    return _url_option(_api_key_option(command))


def connected(
    *,
    in_collection: bool = True,
    retries: RetryPolicy | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Callable[[Command], Command]:
    """Decorator: adds the options of a connection, and passes a client to the command.

    A command that is not about the images of one collection has no --collection.
    """
    options = connection_options if in_collection else _service_options

    def decorate(command: Command) -> Command:
        @options
        @functools.wraps(command)
        def run(
            url: str,
            api_key: str | None,
            collection: str | None = None,
            **arguments: Any,
        ) -> None:
            with Precis(
                url,
                api_key=api_key,
                collection=collection,
                timeout_s=timeout_s,
                retries=retries,
            ) as precis:
                command(precis, **arguments)

        return run

    return decorate


def _json_object(
    _: click.Context, parameter: click.Parameter, text: str | None
) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param=parameter) from error
    if not isinstance(value, dict):
        raise click.BadParameter("not a JSON object", param=parameter)
    return value


def filtered(command: Command) -> Command:
    """Decorator: adds --where and --tag, as `where` and `tags`."""
    where = click.option(
        "--where",
        metavar="JSON",
        callback=_json_object,
        help="""Only images with this metadata, as JSON: '{"folder": "/home/me/Pictures"}'.""",
    )
    tags = click.option(
        "--tag", "tags", multiple=True, help="Only images with this tag; repeatable."
    )
    return where(tags(command))


def full_ids(precis: Precis, given: Sequence[str]) -> list[str]:
    """The ids that the given ones shorten: the first digits of an id are enough where unique.

    An id of full length stays as it is. Raises click.ClickException where no or several ids begin
    so.
    """
    short = {text for text in given if len(text) < ID_LENGTH}
    whole = {text: _full_id(precis, text) for text in short}
    return [whole.get(text, text) for text in given]


def _full_id(precis: Precis, short: str) -> str:
    # One more than is named tells that there are more.
    images = precis.images(id_prefix=short, page_size=MOST_NAMED + 1)
    ids = [image.id for image in islice(images, MOST_NAMED + 1)]
    if not ids:
        raise click.ClickException(f"No image has an id that begins {shown(short)}.")
    if not all(id_.startswith(short) for id_ in ids):
        raise click.ClickException(
            f"This service does not know short ids; give all {ID_LENGTH} digits."
        )
    if len(ids) > 1:
        listed = ", ".join(ids[:MOST_NAMED])
        more = ", …" if len(ids) > MOST_NAMED else ""
        raise click.ClickException(
            f"Several images have an id that begins {short}: {listed}{more}"
        )
    return ids[0]


MOST_NAMED = 5  # of the images that a short id may mean


def print_json(result: Any) -> None:
    """Prints a dataclass as a line of JSON."""
    line = json.dumps(dataclasses.asdict(result), ensure_ascii=False, default=str)
    # Half of a surrogate pair, in the name of a file, is written as JSON spells it.
    click.echo(line.encode(errors="backslashreplace").decode())


def shown(text: object) -> str:
    """Somebody else's text for a terminal: what is not printable in it is escaped.

    A line break in it must not begin a line, nor an escape sequence reach the terminal.
    """
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def name_of(metadata: dict[str, Any]) -> str:
    """The file name that `precis ingest` put into the metadata, if any."""
    return shown(metadata.get(FILENAME, ""))


def path_of(metadata: dict[str, Any]) -> str | None:
    """The path that `precis ingest` put into the metadata, if any."""
    path = metadata.get(PATH)
    return path if isinstance(path, str) and path else None
