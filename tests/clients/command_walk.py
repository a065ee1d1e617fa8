"""All commands of `precis`, of every installed distribution."""

from __future__ import annotations

from collections.abc import Iterator

import click

from precis_client.cli import main
from precis_client.command_tables import LazyGroup

Path = tuple[str, ...]


def every_command(
    group: click.Group = main, path: Path = ()
) -> Iterator[tuple[Path, click.Command]]:
    """Yields the words that call a command, and the command; groups too."""
    context = click.Context(group)
    names = group.list_commands(context)
    if isinstance(group, LazyGroup):
        names = list(group.lazy_commands())
    for name in names:
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
