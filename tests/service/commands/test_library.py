"""The commands on a data folder, over a library that the service made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from index.data_folder import PARTS, library_folders
from tests.service.commands.conftest import Precis, error_of
from tests.service.conftest import (
    Start,
    add,
    ask,
    ids,
    listed,
    record,
    search,
    stop,
    uploaded,
)


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
    assert damaged.stdout.startswith(f"picture of {red}: ")
    assert damaged.stdout.endswith("the library is damaged.\n")
    assert str(data_dir) in damaged.stderr
    assert "`precis fsck --repair`" in damaged.stderr
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


PETS = {"collection": "pets"}


@pytest.fixture
def with_pets(start: Start) -> list[str]:
    """A stopped service with two images in a collection; their ids."""
    client = start()
    add(client, "red")
    client.put("/collections/pets")
    pets = ids(uploaded(client, "green", "blue", params=PETS))
    stop(client)
    return pets


def test_a_collection_is_backed_up_checked_and_recoded(
    start: Start, run: Precis, with_pets: list[str], tmp_path: Path
) -> None:
    assert run("backup", tmp_path / "backup").exit_code == 0
    restored = tmp_path / "restored"
    to_restored = ("--data-dir", restored)
    assert run("restore", tmp_path / "backup", *to_restored).exit_code == 0
    assert run("fsck", *to_restored).output == "3 images checked: no damage.\n"
    done = run("recode", "fp16", *to_restored)
    assert done.exit_code == 0, done.output
    assert "3 images recoded to fp16." in done.output
    again = start(data_dir=restored)
    images = listed(again, **PETS)
    assert ids(images) == with_pets
    assert {image["tokens"]["codec"] for image in images} == {"fp16"}


def test_damage_in_a_collection_is_named(
    run: Precis, with_pets: list[str], data_dir: Path
) -> None:
    file = data_dir / "collections" / "pets" / "images.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE images SET record = zeroblob(9) WHERE row = 1")
    done = run("fsck")
    assert done.exit_code == 1
    assert f"record of {with_pets[0]} in collection pets: " in done.output


def test_every_file_of_a_data_folder_is_in_its_registry(
    start: Start, run: Precis, with_pets: list[str], data_dir: Path
) -> None:
    """A feature that keeps a file there says whether a backup needs it."""
    client = start()
    uploaded(client, "yellow", headers={"Idempotency-Key": "key"})
    known = {
        file
        for folder in library_folders(data_dir)
        for part in PARTS
        for file in folder.path.glob(part.pattern)
    }
    files = {path for path in data_dir.rglob("*") if path.is_file()}
    assert files - known == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "nowhere"),
        ("fsck",),
        ("recode", "nonsense"),
        ("migrate",),
        ("export", "library", "nowhere"),
    ],
)
def test_a_folder_without_a_library_is_named_with_the_remedy(
    run: Precis, data_dir: Path, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    line = error_of(run(*arguments))
    assert line.startswith(f"there is no library in {data_dir}. ")
    assert "PRECIS_DATA_DIR" in line
    line = error_of(run(*arguments, "--data-dir", tmp_path / "other"))
    assert line.startswith(f"there is no library in {tmp_path / 'other'}. ")


def test_errors_name_the_folder_and_the_remedy(
    start: Start, run: Precis, data_dir: Path, tmp_path: Path
) -> None:
    client = start()
    add(client, "red")
    for command in (("fsck",), ("recode", "sq8"), ("migrate",)):
        line = error_of(run(*command))
        assert line.startswith(f"{data_dir}: the data folder is in use by another ")
        assert line.endswith(
            "Stop the service or the command that uses it, and try again."
        )
    stop(client)
    backup = tmp_path / "backup"
    assert run("backup", backup).exit_code == 0
    line = error_of(run("backup", backup))
    assert f"{backup} exists already; name a new folder" in line
    line = error_of(run("restore", backup))
    assert f"there is a library in {data_dir} already" in line
    assert "into a folder without one" in line
    (backup / "images.sqlite").write_bytes(b"damage")
    line = error_of(run("restore", backup, "--data-dir", tmp_path / "new"))
    assert line.startswith(f"{backup}: images.sqlite in the backup is damaged.")
    assert line.endswith("use another backup.")
    assert "--codec-state" in error_of(run("recode", "pq2-0123abcd"))


def test_a_library_that_is_damaged_throughout_names_the_remedy(
    start: Start, run: Precis, data_dir: Path
) -> None:
    client = start()
    add(client, "red")
    stop(client)
    (data_dir / "images.sqlite").write_bytes(b"no database at all" * 1000)
    line = error_of(run("fsck"))
    assert line.startswith(f"{data_dir}: ")
    assert "`precis restore` brings back a backup" in line


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


@pytest.mark.parametrize(
    "command", [["backup", "there"], ["fsck"], ["recode", "sq8"], ["migrate"]]
)
def test_commands_on_files_refuse_a_library_in_a_database(
    run: Precis, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("PRECIS_STORE", "postgresql://me:horse@db.example/pictures")
    refused = run(*command)
    assert refused.exit_code == 1
    assert "The images are in postgresql://db.example/pictures" in refused.output
    assert "horse" not in refused.output
