"""The `precis` command: the service, training and evaluation, and the client's commands."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from clients.errors import PrecisError
from service.commands.flags import settings_flags, settings_from_flags
from service.errors import OUR_ERRORS


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is defined, and its line in the help page of its group."""

    module: str
    attribute: str
    help: str


LAZY_COMMANDS = {
    "adapters": LazyCommand(
        "compressor.fwd2bot.adapter_folder",
        "adapters",
        "Show and verify trained adapters.",
    ),
    "ask": LazyCommand(
        "clients.commands.ask", "ask", "Ask a question about stored images."
    ),
    "backup": LazyCommand(
        "service.commands.library",
        "backup_command",
        "Copy a library, even while it is in use.",
    ),
    "calibrate": LazyCommand(
        "service.commands.calibrate",
        "calibrate",
        "Fit the probability of a match to scores.",
    ),
    "config": LazyCommand(
        "service.commands.config", "config", "Show every setting and its source."
    ),
    "data": LazyCommand(
        "compressor.default_model.cli",
        "data",
        "Make questions about photographs, to train and evaluate on.",
    ),
    "delete": LazyCommand("clients.commands.images", "delete", "Delete images."),
    "eval": LazyCommand(
        "compressor.default_model.cli",
        "evaluate",
        "Evaluate an LVLM over a folder of images.",
    ),
    "fsck": LazyCommand(
        "service.commands.library", "fsck", "Check a library and repair it."
    ),
    "ingest": LazyCommand(
        "clients.commands.ingest", "ingest", "Store pictures from files and folders."
    ),
    "jobs": LazyCommand(
        "clients.commands.jobs",
        "jobs",
        "Import pictures from the service's own disk.",
    ),
    "keys": LazyCommand(
        "service.commands.keys", "keys", "Create, list and revoke API keys."
    ),
    "list": LazyCommand(
        "clients.commands.images", "list_images", "List images, oldest first."
    ),
    "mcp": LazyCommand(
        "clients.commands.mcp",
        "mcp",
        "Serve a library to a Model Context Protocol host.",
    ),
    "migrate": LazyCommand(
        "service.commands.migrate",
        "migrate",
        "Re-encode a library's images with another model.",
    ),
    "model": LazyCommand(
        "service.commands.model", "model", "Prepare the default model."
    ),
    "rates": LazyCommand(
        "service.commands.rates", "rates", "Plot accuracy against bytes an image."
    ),
    "recode": LazyCommand(
        "service.commands.library",
        "recode",
        "Convert a library to another token codec.",
    ),
    "restore": LazyCommand(
        "service.commands.library",
        "restore_command",
        "Restore a library from a backup.",
    ),
    "score": LazyCommand(
        "service.commands.score", "score", "Score the model on a public benchmark."
    ),
    "search": LazyCommand(
        "clients.commands.search", "search", "Find images by what they show."
    ),
    "show": LazyCommand(
        "clients.commands.images", "show", "Show the record of an image."
    ),
    "study": LazyCommand(
        "compressor.default_model.study",
        "study",
        "Compare ways of training on the same data.",
    ),
    "train": LazyCommand(
        "compressor.default_model.cli",
        "train",
        "Tune an LVLM, and train adapters for it.",
    ),
    "train-codec": LazyCommand(
        "service.commands.library", "train_codec_command", "Train a token codec."
    ),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called.

    Importing torch takes seconds; commands that talk to a service, and help pages, do without it.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, LazyCommand], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, sorted."""
        return sorted([*super().list_commands(ctx), *self._lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported if need be; None where there is none."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        entry = self._lazy[cmd_name]
        command: click.Command = getattr(import_module(entry.module), entry.attribute)
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands from the table, without importing any."""
        lines = {name: entry.help for name, entry in self._lazy.items()}
        lines |= {
            name: command.get_short_help_str(limit=90)
            for name, command in self.commands.items()
        }
        with formatter.section("Commands"):
            formatter.write_dl(sorted(lines.items()))


class PrecisGroup(LazyGroup):
    """A group that ends a command with one line and exit status 1 on an error of our packages."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command. Raises click.ClickException in place of our own errors and OSError."""
        for stream in (sys.stdout, sys.stderr):
            # A terminal may lack characters of a name or an answer; that is no reason to stop.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except (*OUR_ERRORS, PrecisError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            # Click itself ends quietly when the reader of a pipe has gone.
            if error.errno == errno.EPIPE or error.filename is None:
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error


@click.group(
    cls=PrecisGroup,
    lazy=LAZY_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(package_name="precis")
def main() -> None:
    """Précis keeps what a vision-language model saw, not the pixels.

    It compresses each image into a few summary tokens, finds images by what they show, and answers
    questions about them from the tokens alone.
    """


@main.command()
@settings_flags()
def serve(**flags: Any) -> None:
    """Run the service."""
    settings = settings_from_flags(flags)
    from service.server import run

    run(settings)


if __name__ == "__main__":
    main(prog_name="precis")
