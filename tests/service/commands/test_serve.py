"""`precis serve` tells of a mistake at once, in one line, and leaves nothing behind."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from index.store.sqlite import SqliteStore
from service.models import MODELS
from tests.service.commands.conftest import Precis

Options = dict[str, str]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"--codec": "sq9"}, "codec sq9 is none of "),
        ({"--codec-state": "nowhere.npz"}, "There is no nowhere.npz"),
        ({"--model-dir": "mistyped"}, "There is no model in mistyped"),
        ({"--index": "flatt"}, "no engine is called 'flatt'"),
        ({"--store": "sqlight"}, "no engine is called 'sqlight'"),
        ({"--store": "postgresql://me:pw@127.0.0.1:1/x"}, "Connection refused"),
        ({"--port": "taken"}, "cannot listen on 127.0.0.1:"),
        ({"--data-dir": "in use"}, "the data folder is in use"),
    ],
)
def test_a_mistake_is_told_before_the_model_is_loaded(
    precis: Precis,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: Options,
    complaint: str,
) -> None:
    loaded: list[object] = []
    monkeypatch.setitem(MODELS, "fake", loaded.append)
    monkeypatch.chdir(tmp_path)
    flags = {"--port": "0", "--data-dir": "data"} | options
    with socket.create_server(("127.0.0.1", 0)) as other, ExitStack() as stack:
        if flags["--port"] == "taken":
            flags["--port"] = str(other.getsockname()[1])
        before: set[Path] = set()
        if flags["--data-dir"] == "in use":
            stack.callback(SqliteStore(tmp_path / "in use").close)
            before = set(tmp_path.rglob("*"))
        ended = precis("serve", *(word for flag in flags.items() for word in flag))
        assert ended.exit_code == 1
        assert ended.output.startswith("Error: ")
        assert complaint in ended.output
        assert set(tmp_path.rglob("*")) == before
    assert loaded == []
