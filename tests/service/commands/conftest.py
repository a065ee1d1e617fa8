"""The command line in this process, over the fake model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from precis_client.cli import main
from service.models import MODELS
from tests.fakes.model import fake_models

Precis = Callable[..., Result]


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
