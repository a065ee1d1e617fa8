"""The command line in this process, over the fake model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from precis_client.cli import main
from service.models import MODELS
from tests.fakes.model import fake_models
from tests.service.conftest import flat

Precis = Callable[..., Result]
COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture
def precis(monkeypatch: pytest.MonkeyPatch) -> Precis:
    """Runs `precis` with these arguments; the fake model is the default."""
    monkeypatch.setitem(MODELS, "fake", fake_models)
    monkeypatch.setenv("PRECIS_MODEL", "fake")
    return lambda *arguments: CliRunner().invoke(main, list(map(str, arguments)))


def json_line(result: Result) -> Any:
    """The line of JSON that a command prints last."""
    assert result.exit_code == 0, result.output
    *_, last = result.stdout.splitlines()
    return json.loads(last)


def error_of(result: Result) -> str:
    """The one line of an error that a command ended with, without "Error: "."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("Error: ") == 1
    *_, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    return last.removeprefix("Error: ")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Captioned photographs with questions; a fake is right where a picture has one colour."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    lines = []
    for colour in COLOURS:
        for other in COLOURS:
            name = f"{colour}_{other}.png"
            image = flat(colour, (32, 32))
            image.paste(other, (0, 0, 14, 32))
            image.save(folder / "images" / name)
            answer = f"I see {colour}" if colour == other else "a flag"
            line = {
                "file": name,
                "captions": [f"a picture of {colour} and {other}"],
                "queries": [f"{colour} beside {other}"],
                "questions": [["What do you see?", answer]],
            }
            lines.append(line)
    text = "\n".join(map(json.dumps, lines))
    (folder / "index.jsonl").write_text(text)
    return folder
