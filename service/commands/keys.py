"""`precis keys`: the API keys of a data folder. A running service knows of a change at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from service.api_keys import SCOPES, ApiKey, ApiKeys, Scope
from service.commands.flags import settings_flags, settings_from_flags
from service.errors import KeyUnknown
from service.rate_limits import Limits
from service.remedies import library_errors


@click.group()
def keys() -> None:
    """Create, list and revoke API keys.

    Once a key was made, every request needs one.
    """


@keys.command()
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    default="read",
    show_default=True,
    help="read: search, ask and show. write: also store, change and delete images. admin: also"
    " create and delete collections.",
)
@click.option(
    "--collection",
    "collections",
    multiple=True,
    help="Only for this collection; repeatable. By default for everything.",
)
@click.option("--name", default="", help="A note of who uses the key.")
@click.option(
    "--requests-per-minute",
    type=click.IntRange(min=1),
    help="Most requests a minute. [default: PRECIS_REQUESTS_PER_MINUTE of the service]",
)
@click.option(
    "--body-bytes-per-day",
    type=click.IntRange(min=1),
    help="Most bytes of request bodies a day. [default: PRECIS_BODY_BYTES_PER_DAY of the service]",
)
@settings_flags("data_dir")
def create(
    scope: Scope,
    collections: tuple[str, ...],
    name: str,
    requests_per_minute: int | None,
    body_bytes_per_day: int | None,
    **flags: Any,
) -> None:
    """Create a key and print it. It is shown this once: only a hash of it is stored."""
    limits = Limits(requests_per_minute, body_bytes_per_day)
    with _keys(flags) as store:
        key, text = store.create(name, scope, collections, limits)
    click.echo(f"Key {key.id}; keep its text, it is not shown again:", err=True)
    click.echo(text)


@keys.command("list")
@settings_flags("data_dir")
def list_keys(**flags: Any) -> None:
    """List all keys, oldest first: id, scope, collections, day of creation, state, limits, name."""
    with _keys(flags) as store:
        listed = store.all()
    for key in listed:
        click.echo(_line(key))
    if not listed:
        # A mistyped folder has none either.
        click.echo(f"No keys in {settings_from_flags(flags).data_dir}.", err=True)


@keys.command()
@click.argument("id")
@settings_flags("data_dir")
def revoke(id: str, **flags: Any) -> None:
    """End the key ID at once. The service does not open when its last key ends."""
    with _keys(flags) as store:
        if not store.revoke(id):
            folder = settings_from_flags(flags).data_dir
            raise KeyUnknown(f"No key in force in {folder} has the id {id}.")
    click.echo(f"Key {id} is revoked.")


@contextmanager
def _keys(flags: dict[str, Any]) -> Iterator[ApiKeys]:
    settings = settings_from_flags(flags)
    with library_errors(settings), closing(ApiKeys(settings.data_dir)) as keys:
        yield keys


def _line(key: ApiKey) -> str:
    reach = "everything"
    if key.collections is not None:
        reach = ",".join(sorted(key.collections))
    created = datetime.fromtimestamp(key.created_at_ms / 1000, UTC).date().isoformat()
    state = "in force" if key.revoked_at_ms is None else "revoked"
    words = [key.id, key.scope, reach, created, state, *_limits(key.limits), key.name]
    return "  ".join(words).rstrip()


def _limits(limits: Limits) -> Iterator[str]:
    if limits.requests_per_minute is not None:
        yield f"{limits.requests_per_minute} requests a minute"
    if limits.body_bytes_per_day is not None:
        yield f"{limits.body_bytes_per_day} bytes a day"
