"""What the commands have in common: the options that name the service, JSON output, errors as exit
codes.

Knows nothing of single commands.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import click

from clients.calls import DEFAULT_URL
from clients.errors import PrecisError
from clients.retries import RetryPolicy
from clients.sync_client import Precis

Command = Callable[..., None]

as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object a line."
)


def connected(*, retries: RetryPolicy | None = None) -> Callable[[Command], Command]:
    """Decorator: adds --url and --api-key and hands the command a client. Its errors end the
    command with status 1.
    """

    def decorate(command: Command) -> Command:
        @click.option(
            "--url",
            default=DEFAULT_URL,
            envvar="PRECIS_URL",
            show_default=True,
            show_envvar=True,
            help="The service.",
        )
        @click.option(
            "--api-key",
            envvar="PRECIS_API_KEY",
            show_envvar=True,
            help="The service's key, if it has one.",
        )
        @functools.wraps(command)
        def run(url: str, api_key: str | None, **arguments: Any) -> None:
            try:
                with Precis(url, api_key=api_key or None, retries=retries) as precis:
                    command(precis, **arguments)
            except PrecisError as error:
                raise click.ClickException(str(error)) from error

        return run

    return decorate


def print_json(result: Any) -> None:
    """A dataclass as a line of JSON."""
    click.echo(json.dumps(dataclasses.asdict(result), ensure_ascii=False, default=str))


def name_of(metadata: dict[str, Any]) -> str:
    """The file name that ingest noted, if it did."""
    return str(metadata.get("filename", ""))
