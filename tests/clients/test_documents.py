"""What the documentation tells people to type works: code runs, commands, flags and links exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from precis_client.cli import main
from tests.clients.serving import served
from tests.service.conftest import picture

ROOT = Path(__file__).parents[2]
TUTORIALS = ("README.md", "docs/quickstart.md")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
EVERY_PAGE = sorted(str(path.relative_to(ROOT)) for path in PAGES)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)[^)]*\)")
TARGETS = re.compile(r"^([a-z][a-z -]*):", re.MULTILINE)
MAKE = re.compile(r"`make ([a-z-]+)`|^ {4}make ([a-z-]+)", re.MULTILINE)
COMMAND = re.compile(r"^    (?:\.venv/bin/)?(precis .*?)(?:  +#.*)?$", re.MULTILINE)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def read(page: str) -> str:
    return (ROOT / page).read_text()


@pytest.mark.parametrize("page", TUTORIALS)
def test_python_examples_run(page: str, tmp_path: Path) -> None:
    (code,) = PYTHON.findall(read(page))
    for name in ("cat.jpg", "dog.jpg"):
        (tmp_path / name).write_bytes(picture("red", format="JPEG"))
    with served(tmp_path / "data") as url:
        code = code.replace("http://127.0.0.1:8000", url).replace(
            "Precis()", f"Precis({url!r})"
        )
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert ran.stderr == ""
    assert "I see red." in ran.stdout


@pytest.mark.parametrize("page", TUTORIALS)
def test_commands_exist(page: str) -> None:
    lines = COMMAND.findall(read(page))
    assert lines
    for line in lines:
        for part in line.split(" | "):
            _, name, *words = shlex.split(part)
            command = main.get_command(click.Context(main), name)
            assert command is not None, part
            flags = set(main.context_settings["help_option_names"])
            for option in command.params:
                flags.update(option.opts)
            used = {word for word in words if word.startswith("-")}
            assert used <= flags, part


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_links_lead_to_files(page: str) -> None:
    folder = (ROOT / page).parent
    for target in LINK.findall(read(page)):
        assert (folder / target).exists(), target


@pytest.mark.parametrize("page", [*TUTORIALS, "CONTRIBUTING.md"])
def test_make_targets_exist(page: str) -> None:
    targets = " ".join(TARGETS.findall(read("Makefile"))).split()
    commands = MAKE.findall(read(page))
    assert commands
    assert {quoted or shown for quoted, shown in commands} <= set(targets)
