"""Tables of commands: where each is defined, and its line in the help page.

A distribution adds commands to `precis` through an entry point of the group `precis.commands` that
names its CommandTable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import click
from click.shell_completion import CompletionItem

ENTRY_POINTS = "precis.commands"


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is defined, and its line in the help page of its group."""

    module: str
    attribute: str
    help: str
    hidden: bool = False  # left out of the help page

    def load(self) -> click.Command:
        """The command; imports its module."""
        command: click.Command = getattr(import_module(self.module), self.attribute)
        return command


@dataclass(frozen=True)
class CommandTable:
    """The commands of a distribution, by name."""

    commands: Mapping[str, LazyCommand]
    # Each ends a command with one line and exit status 1.
    errors: tuple[type[Exception], ...] = ()


def installed_tables() -> Iterator[CommandTable]:
    """The tables of all installed distributions."""
    for entry_point in entry_points(group=ENTRY_POINTS):
        table = entry_point.load()
        if not isinstance(table, CommandTable):
            raise TypeError(f"{entry_point.value} is not a CommandTable.")
        yield table


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called.

    Importing torch takes seconds; commands that talk to a service, and help pages, do without it.
    """

    def __init__(
        self,
        *args: Any,
        commands: Mapping[str, LazyCommand] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._lazy = dict(commands or {})

    def lazy_commands(self) -> Mapping[str, LazyCommand]:
        """All commands, in the order of the help page."""
        return self._lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of the commands that the help page shows, in its order."""
        table = self.lazy_commands()
        return [name for name, entry in table.items() if not entry.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of this name, imported if need be; None where there is none."""
        entry = self.lazy_commands().get(cmd_name)
        return None if entry is None else entry.load()

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[CompletionItem]:
        """Names of commands and options that begin so, without importing any command."""
        table = self.lazy_commands()
        names = [
            name for name in self.list_commands(ctx) if name.startswith(incomplete)
        ]
        items = [CompletionItem(name, help=table[name].help) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Writes the list of commands from the table, without importing any."""
        table = self.lazy_commands()
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, table[name].help) for name in self.list_commands(ctx)]
            )
