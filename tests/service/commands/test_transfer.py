"""`precis export library` and `precis import`, over libraries that the service made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from index.exports import writer
from index.exports.reader import ImportedBatch, import_records
from index.store.sqlite import SqliteStore
from service.commands import transfer
from service.commands.progress import CONTINUES
from service.models import MODELS
from tests.fakes.model import FakeGenerator, FakeSummaryModel
from tests.service.commands.conftest import Precis, error_of
from tests.service.conftest import (
    Start,
    add,
    ask,
    factory,
    ids,
    listed,
    search,
    stop,
    uploaded,
)

PETS = {"collection": "pets"}


@pytest.fixture
def run(precis: Precis, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Precis:
    """Runs a command on the data folder of the test."""
    monkeypatch.setenv("PRECIS_DATA_DIR", str(data_dir))
    return precis


def interrupted_after_one() -> Callable[..., Iterator[ImportedBatch]]:
    """Imports the first shard, and is interrupted in the second."""
    done = []

    def importing(*arguments: Any) -> Iterator[ImportedBatch]:
        if done:
            raise KeyboardInterrupt
        done.append(True)
        yield from import_records(*arguments)

    return importing


class OtherModel(FakeSummaryModel):
    fingerprint = "0e" * 32


@pytest.fixture
def export(
    start: Start, run: Precis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An export of two images, one a shard, and of one in a collection."""
    monkeypatch.setattr(writer, "_SHARD_IMAGES", 1)
    client = start()
    add(client, "red", "blue")
    client.put("/collections/pets")
    uploaded(client, "green", params=PETS)
    stop(client)
    done = run("export", "library", tmp_path / "export")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"3 images exported to {tmp_path / 'export'}.\n"
    return tmp_path / "export"


def test_a_library_moves_to_another_folder(
    start: Start, run: Precis, export: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    done = run("import", export, "--data-dir", other)
    assert done.exit_code == 0, done.output
    assert done.stdout == "3 images imported; 0 were there already.\n"
    again = run("import", export, "--data-dir", other)
    assert again.stdout == "0 images imported; 3 were there already.\n"
    client = start(data_dir=other)
    red = search(client, "red")[0]["id"]
    assert len(listed(client)) == 2
    assert ask(client, "a", image_ids=[red])["answer"] == "I see red."
    assert client.get(f"/images/{red}/thumbnail").status_code == 200
    assert len(ids(listed(client, **PETS))) == 1


def test_an_import_adds_to_what_is_there(
    start: Start, run: Precis, export: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    client = start(data_dir=other)
    add(client, "red", "black")
    client.put("/collections/pets")
    refused = run("import", export, "--data-dir", other)
    assert refused.exit_code == 1  # the service has it open
    assert refused.output.startswith("Error: ")
    stop(client)
    done = run("import", export, "--data-dir", other)
    assert done.stdout == "2 images imported; 1 were there already.\n"
    client = start(data_dir=other)
    assert len(listed(client)) == 3
    assert len(listed(client, **PETS)) == 1


def test_a_damaged_shard_is_named(run: Precis, export: Path, tmp_path: Path) -> None:
    shard = export / "images-00001.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    done = run("import", export, "--data-dir", tmp_path / "other")
    assert done.exit_code == 1
    assert "2 images imported; 0 were there already." in done.stdout
    assert "images-00001.tar in the export is damaged" in done.stderr


def test_another_model_is_refused_in_one_line(
    run: Precis, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "other", factory(OtherModel(), FakeGenerator()))
    other = ("--model", "other", "--data-dir", tmp_path / "other")
    done = run("import", export, *other)
    assert done.exit_code == 1
    assert done.output.startswith("Error: the images of the export were made by fake")
    assert len(done.output.splitlines()) == 1
    assert not (tmp_path / "other" / "images.sqlite").exists()


def test_images_of_another_model_are_left_out_and_counted(
    run: Precis, export: Path, data_dir: Path, tmp_path: Path
) -> None:
    with closing(SqliteStore(data_dir)) as store:
        ((_, record), _) = store.scan()
        store.put([replace(record, fingerprint=OtherModel.fingerprint)])
    assert run("export", "library", tmp_path / "mixed").exit_code == 0
    done = run("import", tmp_path / "mixed", "--data-dir", tmp_path / "other")
    assert done.exit_code == 1
    assert "2 images imported" in done.stdout
    assert "1 images were made by another model" in done.stderr


def test_what_cannot_be_done_is_said_in_one_line(
    run: Precis, export: Path, tmp_path: Path
) -> None:
    (export / "manifest.json").unlink()
    for arguments in (
        ("export", "library", export),
        ("export", "library", tmp_path / "x", "--data-dir", tmp_path / "nowhere"),
        ("import", export),
        ("import", tmp_path / "data"),
    ):
        done = run(*arguments)
        assert done.exit_code == 1
        assert done.output.startswith("Error: ")
        assert len(done.output.splitlines()) == 1


def test_what_is_no_export_is_said_to_be_none(
    run: Precis, export: Path, data_dir: Path, tmp_path: Path
) -> None:
    for folder in (data_dir, export / "collections"):
        line = error_of(run("import", folder, "--data-dir", tmp_path / "other"))
        assert line.startswith(f"{folder} has no manifest.json: it is not an export, ")
    line = error_of(run("import", export, "--data-dir", export))
    assert line.startswith(f"{export} is the export itself")
    other = tmp_path / "other"
    line = error_of(run("import", export, "--codec", "nonsense", "--data-dir", other))
    assert "codec nonsense is none of fp16, sq4, sq8" in line
    assert not other.exists()
    assert not (export / "images.sqlite").exists()


def test_an_export_is_written_to_a_new_folder(
    run: Precis, export: Path, data_dir: Path
) -> None:
    line = error_of(run("export", "library", export))
    assert line == f"{export} exists already; name a new folder"
    inside = data_dir / "collections" / "export"
    line = error_of(run("export", "library", inside))
    assert line.startswith(f"{inside} would be among the collections of the library")
    assert not inside.exists()


def test_an_interrupted_export_leaves_nothing(
    run: Precis, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "describe_all", interrupted)
    target = tmp_path / "second"
    done = run("export", "library", target)
    assert done.exit_code == 130
    assert done.output == f"Interrupted. There is no {target}; nothing was exported.\n"
    assert not list(tmp_path.glob("second*"))


def test_an_interrupted_import_continues(
    run: Precis, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("import", export, "--data-dir", tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "import_records", interrupted_after_one())
        done = run(*command)
    assert done.exit_code == 130
    assert done.output == f"Interrupted. {CONTINUES}\n"
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert done.stdout == "2 images imported; 1 were there already.\n"
