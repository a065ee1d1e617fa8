"""`precis cluster` where Ray is not needed to see what is wrong: one line, and exit status 1."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from precis_client.cli import main


def complaint(*arguments: str) -> str:
    """The one line that a command ends with."""
    result = CliRunner().invoke(main, ["cluster", *arguments])
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


def written(folder: Path, store: str) -> str:
    path = folder / "cluster.toml"
    path.write_text(f'[settings]\nstore = "{store}"\n')
    return str(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in complaint("up", str(tmp_path / "absent.toml"))


def test_a_store_of_one_machine(tmp_path: Path) -> None:
    assert "replicas cannot share 'sqlite'" in complaint(
        "up", written(tmp_path, "sqlite")
    )


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    line = complaint("up", written(tmp_path, "postgresql://precis@127.0.0.1:1/precis"))
    assert "postgresql://127.0.0.1:1/precis" in line
    assert "Start the database" in line


@pytest.mark.parametrize("command", ["status", "down"])
def test_ray_is_missing(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "service.cluster.control", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'precis-service[cluster]'" in complaint(command)
