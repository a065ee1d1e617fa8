"""Flags of the commands that load a model: the same settings as those of the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from index.store.sqlite import SqliteStore
from tests.service.commands.conftest import Precis

COMMANDS = [
    ("calibrate", "--data", ".", "curve.json"),
    ("migrate",),
    ("rates", "--data", "."),
    ("recode", "fp16"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=[name for name, *_ in COMMANDS])
def test_a_setting_that_makes_no_sense_is_a_usage_error(
    precis: Precis, command: tuple[str, ...]
) -> None:
    refused = precis(*command, "--device", "gpu")
    assert refused.exit_code == 2
    assert "--device (or PRECIS_DEVICE)" in refused.output


def test_a_model_that_does_not_exist_is_an_error_of_one_line(
    precis: Precis, tmp_path: Path
) -> None:
    SqliteStore(tmp_path).close()
    refused = precis("recode", "fp16", "--model", "nonsense", "--data-dir", tmp_path)
    assert refused.exit_code == 1
    assert "There is no model 'nonsense'; choose one of" in refused.output
