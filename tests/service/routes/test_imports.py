"""Pictures imported from the service's own disk: folders, tar and Parquet, and nothing outside."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.use_cases.import_source import ImportSource, Place
from tests.fakes.model import Gate, InterruptedModel
from tests.service.conftest import (
    Body,
    Start,
    assert_problem,
    factory,
    listed,
    picture,
    stop,
)
from tests.service.routes.test_jobs import blocked_model, finished, job

MANY = 10**6
COLOURS = ("red", "green", "blue", "yellow", "white", "black")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The import folder, with a secret beside it."""
    folder = tmp_path / "import"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(picture("black"))
    return folder


@pytest.fixture
def client(start: Start, root: Path) -> TestClient:
    return start(import_dir=root)


def imports(client: TestClient, path: str, **members: Any) -> Response:
    query = members.pop("params", None)
    return client.post("/jobs", json={"path": path, **members}, params=query)


def imported(client: TestClient, path: str, **members: Any) -> Body:
    """The job of an import, once it has finished."""
    response = imports(client, path, **members)
    assert response.status_code == 202, response.text
    return finished(client, response.headers["location"])


def write(path: Path, *colours: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for colour in colours:
        (path / f"{colour}.png").write_bytes(picture(colour))


def write_tar(path: Path, **members: bytes) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def filenames(client: TestClient) -> list[str]:
    return [image["metadata"].get("filename") for image in listed(client)]


def test_a_folder_is_imported_with_its_folders(client: TestClient, root: Path) -> None:
    write(root / "trip" / "day", "blue")
    write(root / "trip", "red", "green")
    write(root / "trip" / ".hidden", "yellow")
    (root / "trip" / "notes.txt").write_text("no picture")
    (root / "trip" / "broken.png").write_bytes(b"text")
    done = imported(client, "trip", metadata={"tags": ["trip"]})
    assert done["state"] == "done"
    assert done["path"] == "trip"
    assert done["counts"] == {"created": 3, "failed": 1}
    assert done["passed_over"] == {"hidden": 1, ".txt files": 1}
    assert done["files_per_s"] > 0
    (failure,) = done["files"]
    assert failure["filename"] == "trip/broken.png"
    assert failure["error"]["type"] == "urn:precis:problem:not-an-image"
    assert filenames(client) == ["green.png", "red.png", "blue.png"]
    assert all(image["metadata"]["tags"] == ["trip"] for image in listed(client))
    again = imported(client, ".")
    assert again["counts"] == {"exists": 3, "failed": 1}


def test_a_webdataset_brings_its_captions(client: TestClient, root: Path) -> None:
    write_tar(
        root / "shard.tar",
        a_png=picture("red"),
        a_txt=b" a red thing ",
        a_json=b'{"year": 2020}',
        b_json=b"[1]",
        b_png=picture("blue"),
        c_txt=b"no picture",
        d_png=b"",
    )
    done = imported(client, "shard.tar")
    assert done["counts"] == {"created": 2, "failed": 1}
    assert done["files"][0]["filename"] == "shard.tar/d.png"
    red, blue = listed(client)
    caption = {"filename": "a.png", "caption": "a red thing", "year": 2020}
    assert red["metadata"] == caption
    assert blue["metadata"] == {"filename": "b.png"}


# Each member is a header and one block of data.
@pytest.mark.parametrize("blocks", [2, 2.2, 3])
def test_what_is_whole_in_a_tar_that_is_cut_off_is_imported(
    client: TestClient, root: Path, blocks: float
) -> None:
    write_tar(root / "a.tar", a_png=picture("red"), b_png=picture("blue"))
    data = (root / "a.tar").read_bytes()
    (root / "a.tar").write_bytes(data[: int(blocks * tarfile.BLOCKSIZE)])
    done = imported(client, "a.tar")
    assert done["state"] == "done"
    assert done["counts"] == {"created": 1, "failed": 1}
    assert done["files"][0]["error"]["type"].endswith(":import-unreadable")


def test_parquet_as_the_hub_writes_it(client: TestClient, root: Path) -> None:
    rows = [
        {"bytes": picture("red"), "path": "folder/red.png"},
        {"bytes": picture("blue"), "path": None},
        {"bytes": None, "path": "gone.png"},
    ]
    table = pa.table({"image": rows, "label": [7, 8, 9], "raw": [b"a", b"b", b"c"]})
    pq.write_table(table, root / "a.parquet", row_group_size=2)
    done = imported(client, "a.parquet")
    assert done["counts"] == {"created": 2, "failed": 1}
    assert done["files"][0]["filename"] == "a.parquet#2"
    red, blue = listed(client)
    assert red["metadata"] == {"filename": "red.png", "label": 7}
    assert blue["metadata"] == {"label": 8}


def test_shards_that_are_none_fail_alone(client: TestClient, root: Path) -> None:
    write(root, "red")
    (root / "a.parquet").write_bytes(b"text")
    (root / "b.tar").write_bytes(b"text" * 200)
    pq.write_table(pa.table({"label": [1]}), root / "c.parquet")
    done = imported(client, ".")
    assert done["counts"] == {"created": 1, "failed": 3}
    names = [file["filename"] for file in done["files"]]
    assert names == ["a.parquet", "b.tar", "c.parquet"]


@pytest.mark.parametrize(
    "path",
    [
        "..", "../secret.png", "/etc", "a/../../secret.png", "", "a\0b", "missing", "./../import",
        "link", "link/secret.png", "out", "secret.png",
    ],
)  # fmt: skip
def test_nothing_outside_is_imported(client: TestClient, root: Path, path: str) -> None:
    (root / "link").symlink_to(root.parent)
    (root / "out").symlink_to(root.parent / "secret.png")
    assert_problem(imports(client, path), 422, "invalid-input")


def test_links_in_a_folder_are_passed_over(client: TestClient, root: Path) -> None:
    write(root / "a", "red")
    (root / "a" / "folder").symlink_to(root.parent)
    (root / "a" / "z.png").symlink_to(root.parent / "secret.png")
    (root / "a" / "loop").symlink_to(root / "a")
    os.mkfifo(root / "a" / "pipe.png")
    done = imported(client, ".")
    assert done["counts"] == {"created": 1}
    assert done["passed_over"] == {"links": 3, "pipes and devices": 1}


def test_a_file_exchanged_for_a_link_is_not_followed(root: Path) -> None:
    write(root / "a", "red")
    (found,) = ImportSource(root, "a", MANY).pictures()
    (root / "a" / "red.png").unlink()
    (root / "a").rmdir()
    (root / "a").symlink_to(root.parent)
    (root.parent / "red.png").write_bytes(b"outside")
    with pytest.raises(Exception, match="red"):
        found.read()


PATHS = st.lists(
    st.sampled_from(["..", ".", "a", "link", "out", "", "/", "secret.png", "red.png"]),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=PATHS, absolute=st.booleans())
def test_no_path_leads_out(tmp_path: Path, names: list[str], absolute: bool) -> None:
    root = tmp_path / "import"
    if not root.exists():
        write(root / "a", "red")
        (tmp_path / "secret.png").write_bytes(b"secret")
        (root / "link").symlink_to(tmp_path)
        (root / "a" / "out").symlink_to(tmp_path / "secret.png")
    path = "/" * absolute + "/".join(names)
    try:
        source = ImportSource(root, path, MANY)
    except InvalidInput:
        return
    for found in source.pictures():
        assert found.read().data == picture("red")


def test_a_service_without_an_import_folder_imports_nothing(start: Start) -> None:
    problem = assert_problem(imports(start(), "."), 422, "invalid-input")
    assert "PRECIS_IMPORT_DIR" in problem["detail"]


def test_an_import_goes_on_after_a_restart(
    start: Start, root: Path, data_dir: Path
) -> None:
    write(root / "b", *COLOURS)
    write_tar(root / "c.tar", a_png=picture("pink"), b_png=picture("cyan"))
    batches: list[int] = []
    gate = Gate()

    def before(batch: Any) -> None:
        batches.append(len(batch))
        if len(batches) > 6:
            gate.pass_through()

    client = start(factory(InterruptedModel(before)), import_dir=root, batch_size=1)
    address = imports(client, ".").headers["location"]
    gate.wait_for_arrival()
    running = job(client, address)
    assert running["state"] == "running"
    assert running["counts"]["waiting"] + running["counts"]["created"] == 8
    assert imports(client, ".").json()["id"] == running["id"]
    gate.opened.set()
    stop(client)
    client = start(import_dir=root)
    done = finished(client, address)
    assert sum(done["counts"].values()) == 8
    assert set(done["counts"]) <= {"created", "exists"}
    assert len(listed(client)) == 8


def test_an_import_can_be_cancelled(start: Start, root: Path) -> None:
    write(root, *COLOURS)
    model, gate, blocks = blocked_model()
    client = start(factory(model), import_dir=root, batch_size=1)
    blocks.set()
    address = imports(client, ".").headers["location"]
    gate.wait_for_arrival()
    assert client.delete(address).status_code == 204
    assert job(client, address)["state"] == "cancelled"
    gate.opened.set()
    write(root / "later", "pink")
    assert imported(client, "later")["counts"] == {"created": 1}
    ended = job(client, address)
    stored = len(listed(client)) - 1
    assert stored <= 2
    assert ended["counts"]["cancelled"] == len(COLOURS) - stored


def test_a_path_that_is_gone_at_the_restart_ends_the_import(
    start: Start, root: Path
) -> None:
    write(root / "a", "red", "blue")
    model, gate, blocks = blocked_model()
    client = start(factory(model), import_dir=root, batch_size=1)
    blocks.set()
    address = imports(client, "a").headers["location"]
    gate.wait_for_arrival()
    gate.opened.set()
    stop(client)
    (root / "a").rename(root / "b")
    done = finished(start(import_dir=root), address)
    assert done["files"][-1]["filename"] == "a"


def test_failures_are_paged(client: TestClient, root: Path) -> None:
    for number in range(5):
        (root / f"{number}.png").write_bytes(b"text")
    response = imports(client, ".")
    address = response.headers["location"]
    finished(client, address)
    page = client.get(address, params={"limit": 2, "offset": 3}).json()
    assert [file["filename"] for file in page["files"]] == ["3.png", "4.png"]
    assert page["counts"] == {"failed": 5}


def test_limits_hold_for_imports(start: Start, root: Path) -> None:
    client = start(import_dir=root, max_upload_bytes=2000, max_metadata_bytes=50)
    (root / "a.png").write_bytes(picture("red") + bytes(3000))
    write_tar(root / "b.tar", a_png=picture(), a_txt=b"long " * 20)
    done = imported(client, ".")
    kinds = [file["error"]["type"].rsplit(":", 1)[1] for file in done["files"]]
    assert kinds == ["upload-too-large", "invalid-input"]
    assert_problem(imports(client, ".", tokens=3), 422, "invalid-input")
    assert_problem(imports(client, ".", metadata=[]), 422, "invalid-input")


def test_the_walk_can_be_resumed_at_every_picture(root: Path) -> None:
    write(root / "b", "red", "blue")
    write(root / "b" / "a", "green")
    write(root, "yellow")
    write_tar(root / "a.tar", x_png=picture("pink"), y_png=picture("cyan"))
    rows = [picture("white"), picture("black"), picture("grey")]
    pq.write_table(pa.table({"jpg": rows}), root / "z.parquet", row_group_size=2)
    source = ImportSource(root, ".", MANY)
    total, passed_over = source.count(lambda: None)
    names = [found.name for found in source.pictures()]
    assert total == len(names) == 9
    assert not passed_over
    places: list[Place] = [found.place for found in source.pictures()]
    for number, place in enumerate(places, 1):
        rest = [found.name for found in source.pictures(place)]
        assert rest == names[number:]


def test_names_that_are_no_text_are_told(client: TestClient, root: Path) -> None:
    name = os.fsdecode(b"bad\xff.png")
    (root / name).write_bytes(b"text")
    done = imported(client, ".")
    assert done["files"][0]["filename"] == "bad\ufffd.png"


def test_an_import_goes_into_its_collection(client: TestClient, root: Path) -> None:
    write(root, "red")
    client.put("/collections/pets")
    done = imported(client, ".", params={"collection": "pets"})
    assert done["counts"] == {"created": 1}
    assert listed(client) == []
    assert len(listed(client, collection="pets")) == 1
