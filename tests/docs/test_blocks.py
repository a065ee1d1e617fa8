"""What can be said of every code block in the documentation without running it."""

from __future__ import annotations

import ast
import json
import subprocess
import tomllib
from collections.abc import Callable

import click
import pytest
import yaml

from precis_client.cli import main
from tests.docs.blocks import ROOT, Block, blocks, commands
from tests.docs.session import OUTPUTS

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "bench/*.md", "clients/*/*.md")
    for path in ROOT.glob(pattern)
)
EVERY_BLOCK = [block for page in PAGES for block in blocks(page)]


def is_json(code: str) -> None:
    json.loads(code)


def is_shell(code: str) -> None:
    checked = subprocess.run(
        ["bash", "-n"], input=code, capture_output=True, text=True, check=False
    )
    assert not checked.stderr, checked.stderr


# The languages of blocks, each with what its code must be.
LANGUAGES: dict[str, Callable[[str], object]] = {
    "sh": is_shell,
    "python": ast.parse,
    "json": is_json,
    "toml": tomllib.loads,
    "ts": str,
    "text": str,
    "yaml": yaml.safe_load,
}


def parse(
    command: click.Command, arguments: list[str], parent: click.Context | None = None
) -> None:
    """Raises click.UsageError unless the command has these options, with a value where need be."""
    context = click.Context(command, parent=parent)
    _, rest, _ = command.make_parser(context).parse_args(arguments)
    if isinstance(command, click.Group) and rest:
        _, subcommand, rest = command.resolve_command(context, rest)
        assert subcommand is not None
        parse(subcommand, rest, context)


SHELL = [block for block in EVERY_BLOCK if block.language == "sh"]


@pytest.mark.parametrize("block", EVERY_BLOCK, ids=str)
def test_the_language_is_named_and_right(block: Block) -> None:
    assert block.language in LANGUAGES, "a fence needs one of these languages"
    if block.title not in OUTPUTS:
        LANGUAGES[block.language](block.code)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_the_command_line_has_these_commands_and_options(block: Block) -> None:
    for program, *arguments in commands(block.code):
        if program == "precis":
            parse(main, arguments)
