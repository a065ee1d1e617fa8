"""The `precis` command: the client's own commands, and those that other distributions add."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import click

from precis_client.command_tables import (
    CommandTable,
    LazyCommand,
    LazyGroup,
    installed_tables,
)
from precis_client.environment import KEY_REMEDY
from precis_client.errors import AccessDenied, PrecisError

TABLE = CommandTable(
    {
        "ask": LazyCommand(
            "precis_client.commands.ask", "ask", "Ask a question about stored images."
        ),
        "collections": LazyCommand(
            "precis_client.commands.collections",
            "collections",
            "List, create and delete collections.",
        ),
        "delete": LazyCommand(
            "precis_client.commands.images", "delete", "Delete images."
        ),
        "info": LazyCommand(
            "precis_client.commands.info",
            "info",
            "Show which service answers, and its model.",
        ),
        "ingest": LazyCommand(
            "precis_client.commands.ingest",
            "ingest",
            "Store pictures from files and folders.",
        ),
        "jobs": LazyCommand(
            "precis_client.commands.jobs",
            "jobs",
            "Import pictures from the service's own disk.",
        ),
        "list": LazyCommand(
            "precis_client.commands.images",
            "list_images",
            "List images, oldest first.",
        ),
        "mcp": LazyCommand(
            "precis_client.commands.mcp",
            "mcp",
            "Serve a library to a Model Context Protocol host.",
        ),
        "search": LazyCommand(
            "precis_client.commands.search", "search", "Find images by what they show."
        ),
        "show": LazyCommand(
            "precis_client.commands.images", "show", "Show the record of an image."
        ),
        "watch": LazyCommand(
            "precis_client.commands.watch",
            "watch",
            "Keep a library in step with a folder.",
        ),
    },
    (PrecisError,),
)
# The help page begins with what a user of a library needs, of whichever distribution it is.
FIRST = (
    "serve",
    "ingest",
    "watch",
    "search",
    "ask",
    "list",
    "show",
    "delete",
    "backup",
    "restore",
    "collections",
    "keys",
    "info",
)
SERVICE = "precis-service"  # the distribution that brings `precis serve`


class PrecisGroup(LazyGroup):
    """All installed commands. An error of theirs ends with one line and exit status 1."""

    @cached_property
    def _tables(self) -> tuple[CommandTable, ...]:
        return (TABLE, *installed_tables())

    def lazy_commands(self) -> Mapping[str, LazyCommand]:
        """The commands of all tables: first those of FIRST, then the rest, sorted."""
        found: dict[str, LazyCommand] = {}
        for table in self._tables:
            found.update(table.commands)
        order = [name for name in FIRST if name in found]
        order += sorted(found.keys() - set(FIRST))
        return {name: found[name] for name in order}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name. Raises click.UsageError for one of the service's."""
        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in FIRST:
            raise click.UsageError(
                f"`precis {cmd_name}` comes with the service: pip install {SERVICE}"
            )
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command. Raises click.ClickException in place of its errors and OSError."""
        for stream in (sys.stdout, sys.stderr):
            # A terminal may lack characters of a name or an answer; that is no reason to stop.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except OSError as error:
            if isinstance(error, self._errors):
                raise click.ClickException(str(error)) from error
            # Click itself ends quietly when the reader of a pipe has gone.
            if error.errno == errno.EPIPE or error.filename is None:
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error
        except AccessDenied as error:
            raise click.ClickException(f"{error} {KEY_REMEDY}") from error
        except self._errors as error:
            raise click.ClickException(str(error)) from error

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        return tuple(kind for table in self._tables for kind in table.errors)


@click.group(
    cls=PrecisGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(package_name="precis-client")
def main() -> None:
    """Précis keeps what a vision-language model saw, not the pixels.

    It compresses each image into a few summary tokens, finds images by what they show, and answers
    questions about them from the tokens alone.
    """
