"""Common parts of the commands: the connection to the service, and JSON output."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import click

from precis_client import environment
from precis_client.calls import TIMEOUT_S
from precis_client.retries import RetryPolicy
from precis_client.sync_client import Precis

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


def connection_options(command: Command) -> Command:
    """Decorator: adds --url and --api-key, as `url` and `api_key`."""
    return _url_option(_api_key_option(command))


def connected(
    *, retries: RetryPolicy | None = None, timeout_s: float = TIMEOUT_S
) -> Callable[[Command], Command]:
    """Decorator: adds --url and --api-key, and passes a client to the command."""

    def decorate(command: Command) -> Command:
        @connection_options
        @functools.wraps(command)
        def run(url: str, api_key: str | None, **arguments: Any) -> None:
            with Precis(
                url, api_key=api_key, timeout_s=timeout_s, retries=retries
            ) as precis:
                command(precis, **arguments)

        return run

    return decorate


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
    return shown(metadata.get("filename", ""))
