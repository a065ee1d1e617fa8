"""A library in step with a folder: additions, removals, moves; and what must not be deleted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from precis_client import Precis
from precis_client.errors import ConnectionFailed, FolderUnusable
from precis_client.folder_sync import (
    FolderSync,
    SeenFile,
    read_state,
    state_path,
    write_state,
)
from tests.clients.conftest import Draw
from tests.clients.interruptible import interruptible
from tests.clients.serving import address_of_nobody
from tests.eventually import eventually

# Of version 1; a later version must still read it, or begin anew on purpose.
KEPT_STATE = (
    '{"version": 1,'
    ' "sha256": "%s",'
    ' "files": {"/photos/a.png": {"modified_ns": 5, "size_bytes": 7, "image_id": "0a"},'
    ' "/photos/b.png": {"modified_ns": 6, "size_bytes": 8, "image_id": null}}}'
)
SEEN = {"/photos/a.png": SeenFile(5, 7, "0a"), "/photos/b.png": SeenFile(6, 8, None)}


@pytest.fixture
def folder(draw: Draw, tmp_path: Path) -> Path:
    draw("in/red.png", "red")
    draw("in/below/blue.png", "blue")
    return tmp_path / "in"


class Watched:
    """A folder and a library; each `step` is that of a new process with the same state."""

    def __init__(self, precis: Precis, folder: Path) -> None:
        self.precis = precis
        self.folder = folder
        self.state = folder.parent / "state" / "state.json"

    def step(self, precis: Precis | None = None) -> list[str]:
        """What was done, sorted: status and file name."""
        client = precis or self.precis
        sync = FolderSync(client, self.folder, self.state, most_in_flight=2)
        return sorted(f"{each.status} {Path(each.path).name}" for each in sync.step())

    def names(self) -> set[str]:
        return {image.metadata["filename"] for image in self.precis.images()}


@pytest.fixture
def watched(precis: Precis, folder: Path) -> Watched:
    return Watched(precis, folder)


def test_what_is_added_is_stored_and_what_is_removed_deleted(
    watched: Watched, draw: Draw
) -> None:
    assert watched.step() == ["created blue.png", "created red.png"]
    assert watched.step() == []
    draw("in/green.png", "green")
    (watched.folder / "red.png").unlink()
    assert watched.step() == ["created green.png", "removed red.png"]
    assert watched.names() == {"blue.png", "green.png"}


def test_a_changed_file_replaces_its_image(watched: Watched, draw: Draw) -> None:
    watched.step()
    draw("in/red.png", "yellow", (11, 12))
    assert watched.step() == ["created red.png", "removed red.png"]
    sizes = {image.width_px for image in watched.precis.images()}
    assert sizes == {40, 11}


def test_a_moved_file_keeps_its_image_under_its_new_path(watched: Watched) -> None:
    watched.step()
    before = {image.id for image in watched.precis.images()}
    target = watched.folder / "below" / "moved.png"
    (watched.folder / "red.png").rename(target)
    assert watched.step() == ["exists moved.png"]
    images = list(watched.precis.images())
    assert {image.id for image in images} == before
    assert str(target) in {image.metadata["path"] for image in images}


def test_an_image_stays_while_a_copy_of_its_file_does(watched: Watched) -> None:
    copy = watched.folder / "copy.png"
    copy.write_bytes((watched.folder / "red.png").read_bytes())
    watched.step()
    copy.unlink()
    assert watched.step() == []
    (watched.folder / "red.png").unlink()
    (removed,) = watched.step()
    assert removed.startswith("removed ")
    assert len(list(watched.precis.images())) == 1


def test_images_from_elsewhere_are_left_alone(watched: Watched, draw: Draw) -> None:
    watched.precis.add(draw("out/green.png", "green"))
    watched.step()
    (watched.folder / "red.png").unlink()
    watched.step()
    assert len(list(watched.precis.images())) == 2


@pytest.mark.parametrize("emptied", [True, False])
def test_a_folder_whose_disk_is_gone_deletes_nothing(
    watched: Watched, emptied: bool
) -> None:
    watched.step()
    watched.folder.rename(watched.folder.with_name("elsewhere"))
    if emptied:
        watched.folder.mkdir()
    with pytest.raises(FolderUnusable, match=str(watched.folder)):
        watched.step()
    assert len(list(watched.precis.images())) == 2


def test_what_cannot_be_seen_is_not_deleted(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.step()
    walk = os.walk

    def first_folder_only(root: Path, onerror: object) -> object:
        first, *_ = walk(root)
        assert callable(onerror)
        onerror(PermissionError())
        return [first]

    monkeypatch.setattr(os, "walk", first_folder_only)
    assert watched.step() == []
    assert len(list(watched.precis.images())) == 2


def test_a_file_that_is_no_picture_is_tried_once_until_it_changes(
    watched: Watched, draw: Draw
) -> None:
    torn = watched.folder / "torn.png"
    torn.write_bytes(b"no picture")
    assert "failed torn.png" in watched.step()
    assert watched.step() == []
    draw("in/torn.png", "green")
    assert watched.step() == ["created torn.png"]


def test_after_a_failure_of_the_service_it_goes_on(
    watched: Watched, draw: Draw
) -> None:
    watched.step()
    draw("in/green.png", "green")
    (watched.folder / "red.png").unlink()
    with Precis(address_of_nobody()) as gone, pytest.raises(ConnectionFailed):
        watched.step(gone)
    assert watched.step() == ["created green.png", "removed red.png"]


def test_the_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "below" / "state.json"
    assert read_state(file) == {}
    write_state(file, SEEN)
    assert read_state(file) == SEEN
    digest = json.loads(file.read_text())["sha256"]
    assert file.read_text() == KEPT_STATE % digest
    damaged = file.read_text().replace("0a", "0b")
    for text in (damaged, file.read_text()[:50], "[]", "{}"):
        file.write_text(text)
        assert read_state(file) == {}


def test_each_folder_and_library_has_a_state_of_its_own(tmp_path: Path) -> None:
    paths = {
        state_path(url, collection, tmp_path / name)
        for url in ("http://a", "http://b")
        for collection in (None, "pets")
        for name in ("in", "out")
    }
    assert len(paths) == 8


def test_the_command_watches_until_it_is_interrupted(
    url: str, precis: Precis, folder: Path, draw: Draw, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "precis_client", "watch", str(folder)]
    environment = os.environ | {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PRECIS_URL": url,
        "PYTHONUNBUFFERED": "1",
    }

    def stored() -> int:
        return len(list(precis.images()))

    with interruptible([*command, "--every", "0.05"], env=environment) as process:
        eventually(lambda: stored() == 2, limit_s=120)
        draw("in/green.png", "green")
        eventually(lambda: stored() == 3)
        (folder / "red.png").unlink()
        eventually(lambda: stored() == 2)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    statuses = [line.split()[0] for line in printed.splitlines()]
    assert statuses == ["created"] * 3 + ["removed"]
    once = subprocess.run(
        [*command, "--once"], env=environment, capture_output=True, text=True
    )
    assert (once.returncode, once.stdout) == (0, "")
