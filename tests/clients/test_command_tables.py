"""The command line as a whole: its order, its help, and what each command imports."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from precis_client import cli
from precis_client.cli import FIRST, main
from tests.clients.command_walk import every_command
from tests.clients.serving import address_of_nobody

HEAVY = "torch, transformers, numpy, faiss, fastapi, uvicorn, onnxruntime, service.app"


def test_h_shows_the_help_of_every_command() -> None:
    # In a process of its own: a command keeps the names of its help option from its first call, and
    # other tests call commands outside of `precis`.
    name = check_help_pages.__name__
    script = f"from {__name__} import {name}; {name}()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def check_help_pages() -> None:
    paths = [path for path, _ in every_command()]
    assert {("model", "train", "lvlm"), ("keys", "list"), ("search",)} <= set(paths)
    for path in paths:
        result = CliRunner().invoke(main, [*path, "-h"], prog_name="precis")
        assert result.exit_code == 0, path
        assert result.stdout.startswith(f"Usage: precis {' '.join(path)}"), path


def test_a_user_s_commands_come_first_and_the_rest_is_sorted() -> None:
    names = main.list_commands(click.Context(main))
    assert tuple(names[: len(FIRST)]) == FIRST
    others = names[len(FIRST) :]
    assert others == sorted(others)
    shown = CliRunner().invoke(main, ["--help"]).stdout
    _, _, listed = shown.partition("Commands:\n")
    assert [line.split()[0] for line in listed.splitlines()] == names


@pytest.mark.parametrize("name", ["train", "score", "adapters"])
def test_commands_for_models_have_a_group_and_a_short_name(name: str) -> None:
    context = click.Context(main)
    group = main.get_command(context, "model")
    assert isinstance(group, click.Group)
    assert name in group.list_commands(context)
    assert name not in main.list_commands(context)
    assert main.get_command(context, name) is group.get_command(context, name)


@pytest.mark.parametrize("arguments", [["search", "a cat"], ["list"], ["--help"]])
def test_a_client_s_command_imports_nothing_of_a_model(arguments: list[str]) -> None:
    program = (
        "import atexit, sys\n"
        f"heavy = {HEAVY.split(', ')!r}\n"
        "atexit.register(lambda: print('heavy:', [m for m in heavy if m in sys.modules]))\n"
        "from precis_client.cli import main\n"
        "main()\n"
    )
    url = address_of_nobody()
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"PRECIS_URL": url},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in ran.stderr
    assert ran.stdout.splitlines()[-1] == "heavy: []"


def test_the_client_alone_names_the_distribution_that_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "installed_tables", lambda: iter(()))
    alone = cli.PrecisGroup("precis")
    refused = CliRunner().invoke(alone, ["serve"])
    assert refused.exit_code == 2
    assert "pip install precis-service" in refused.stderr
    assert CliRunner().invoke(alone, ["fly"]).exit_code == 2
    assert "search" in CliRunner().invoke(alone, ["--help"]).stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("precis se", "search"),
        ("precis model tr", "train"),
        ("precis search --li", "--like"),
    ],
)
def test_the_shell_completes_without_importing_a_model(
    words: str, expected: str
) -> None:
    program = (
        "import atexit, sys\n"
        f"heavy = {HEAVY.split(', ')!r}\n"
        "atexit.register(lambda: print('heavy:', [m for m in heavy if m in sys.modules]))\n"
        "from precis_client.cli import main\n"
        "main(prog_name='precis')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "_PRECIS_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
        capture_output=True,
        text=True,
    )
    *completed, last = ran.stdout.splitlines()
    assert f"plain,{expected}" in completed
    assert last == "heavy: []"
