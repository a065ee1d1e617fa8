"""The commands on a data folder, over a library that the service made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.service.commands.conftest import Precis
from tests.service.conftest import Start, add, ask, ids, listed, record, search, stop


@pytest.fixture
def run(precis: Precis, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Precis:
    """Runs a command on the data folder of the test."""
    monkeypatch.setenv("PRECIS_DATA_DIR", str(data_dir))
    return precis


def test_a_backup_of_a_running_service_can_be_restored(
    start: Start, run: Precis, tmp_path: Path
) -> None:
    client = start()
    red, blue = add(client, "red", "blue")
    done = run("backup", tmp_path / "backup")
    assert done.exit_code == 0, done.output
    client.delete(f"/images/{red}")
    assert (
        run("restore", tmp_path / "backup").exit_code == 1
    )  # there is a library already
    restored = tmp_path / "restored"
    assert run("restore", tmp_path / "backup", "--data-dir", restored).exit_code == 0
    again = start(data_dir=restored)
    assert ids(listed(again)) == [red, blue]
    assert search(again, "red")[0]["id"] == red


def test_a_check_finds_nothing_wrong_or_says_what(
    start: Start, run: Precis, data_dir: Path
) -> None:
    client = start()
    red, _ = add(client, "red", "blue")
    assert run("fsck").exit_code == 1  # the service has it open
    stop(client)
    done = run("fsck")
    assert done.exit_code == 0, done.output
    assert done.output == "2 images checked: no damage.\n"
    with closing(sqlite3.connect(data_dir / "images.sqlite")) as connection, connection:
        connection.execute(
            "UPDATE pictures SET picture = zeroblob(length(picture)) WHERE row = 1"
        )
    damaged = run("fsck")
    assert damaged.exit_code == 1
    assert damaged.output.startswith(f"picture of {red}: ")
    assert damaged.output.endswith("the library is damaged.\n")
    assert "(repaired)" in run("fsck", "--repair").output
    assert run("fsck").exit_code == 0


def test_a_library_moves_to_another_codec(start: Start, run: Precis) -> None:
    client = start()
    (red,) = add(client, "red")
    before = record(client, red)["tokens"]
    stop(client)
    done = run("recode", "fp16")
    assert done.exit_code == 0, done.output
    assert "1 images recoded to fp16." in done.output
    again = start(codec="fp16")
    after = record(again, red)["tokens"]
    assert before["codec"] == "sq8"
    assert after["codec"] == "fp16"
    assert ask(again, "a", image_ids=[red])["answer"] == "I see red."


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "nowhere"),
        ("fsck",),
        ("recode", "nonsense"),
        ("fsck", "--data-dir", "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run: Precis,
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert "Traceback" not in done.output


def test_a_codec_is_trained_on_tokens_in_a_file(run: Precis, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tokens = random.normal(size=(5600, 2, 4))
    np.save(tmp_path / "tokens.npy", tokens.astype(np.float32))
    done = run("train-codec", "pq2", tmp_path / "tokens.npy", tmp_path / "pq2.faiss")
    assert done.exit_code == 0, done.output
    assert "% of the variance of held-out images" in done.output
    assert (tmp_path / "pq2.faiss").stat().st_size > 0


@pytest.mark.parametrize("content", [b"", b"not an array"])
def test_tokens_that_cannot_be_read_train_nothing(
    run: Precis, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "tokens.npy").write_bytes(content)
    done = run("train-codec", "pq2", tmp_path / "tokens.npy", tmp_path / "pq2.faiss")
    assert done.exit_code == 1
    assert "pq2 was not trained" in done.output
    assert not (tmp_path / "pq2.faiss").exists()
