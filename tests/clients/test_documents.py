"""What README and quick start tell people to type is true: code runs, commands and flags exist,
links lead on.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from service.cli import main
from tests.clients.serving import served
from tests.service.conftest import picture

ROOT = Path(__file__).parents[2]
TOLD = ("README.md", "docs/quickstart.md")
EVERY_PAGE = sorted(
    str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
)


@pytest.mark.parametrize("page", TOLD)
def test_python_examples_run(page: str, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    for name in ("cat.jpg", "dog.jpg"):
        (tmp_path / name).write_bytes(picture("red", format="JPEG"))
    with served(tmp_path / "data") as url:
        code = code.replace("http://127.0.0.1:8000", url).replace("Precis()", f"Precis({url!r})")
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert ran.stderr == ""
    assert "I see red." in ran.stdout


@pytest.mark.parametrize("page", TOLD)
def test_commands_exist(page: str) -> None:
    lines = re.findall(
        r"^    (?:\.venv/bin/)?(precis .*?)(?:  +#.*)?$", (ROOT / page).read_text(), re.MULTILINE
    )
    assert lines
    for line in lines:
        for part in line.split(" | "):
            _, name, *words = shlex.split(part)
            command = main.get_command(click.Context(main), name)
            assert command is not None, part
            flags = {flag for option in command.params for flag in option.opts}
            flags |= set(main.context_settings["help_option_names"])
            assert {word for word in words if word.startswith("-")} <= flags, part


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_links_lead_to_files(page: str) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", [*TOLD, "CONTRIBUTING.md"])
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    names = {name for each in targets for name in each.split()}
    told = re.findall(
        r"`make ([a-z-]+)`|^ {4}make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE
    )
    assert told
    assert {quoted or shown for quoted, shown in told} <= names
