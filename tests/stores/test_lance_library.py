"""Libraries in Lance: several writers, damage, and what a user is told if it cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from index.errors import (
    RecordDamaged,
    StoreAccessDenied,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreTooNew,
    StoreUnreachable,
)
from index.files import checksum
from tests.index.libraries import assert_found, assert_kept, open_here, opened
from tests.index.samples import make_id, make_image, make_images, make_record
from tests.stores.opening import collections_in, reason
from tests.stores.s3_server import S3Server, running_s3_server
from tests.threads import run_threads

pytestmark = pytest.mark.stores
lance = pytest.importorskip("lance")

from index.store.lance.dataset import Change, Dataset, Snapshot  # noqa: E402
from index.store.lance.errors import lance_errors  # noqa: E402
from index.store.lance.head import Head, decode_head, encode_head  # noqa: E402
from index.store.lance.store import LanceStore  # noqa: E402


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of a dataset with three images."""
    with opened(tmp_path / "a", store=f"lance://{tmp_path}/lance") as library:
        library.put(make_images(range(3)))
    return tmp_path / "lance" / "library.lance"


def url_of(place: Path) -> str:
    return f"lance://{place.parent}"


def test_of_writers_at_a_time_none_loses(lance_url: str, tmp_path: Path) -> None:
    """Four processes' worth of stores: rows are assigned once, every content is stored once."""
    place = lance_url.removeprefix("lance://") + "/library.lance"
    stores = [LanceStore(place, tmp_path / str(number)) for number in range(4)]

    def work(thread: int) -> None:
        for _ in range(3):
            rows = stores[thread].put([make_record(0), make_record(100 + thread)])
            assert rows[1] == rows[0] + 1

    run_threads(4, work)
    for store in stores:
        records = dict(store.scan())
        assert len(records) == len({each.id for each in records.values()}) == 5
        assert store.sizes().images == 5
        # 4 writers, 3 calls, 2 rows each.
        assert store.last_row() == 24
        assert store.position().removal == 24 - 5
        store.close()


def test_a_commit_on_an_old_snapshot_is_planned_again(tmp_path: Path) -> None:
    one, other = (Dataset(str(tmp_path / "x.lance")) for _ in range(2))
    seen: list[int] = []

    def plan(snapshot: Snapshot) -> tuple[Change, None]:
        seen.append(snapshot.head.last_row)
        if len(seen) == 1:
            later = Head(snapshot.head.store_id, last_row=7)
            other.change(lambda _: (Change(later, []), None))
        return Change(snapshot.head, [{"id": "file:a", "data": b"x"}]), None

    one.change(plan)
    assert seen == [0, 7]
    assert other.latest().head.last_row == 7


def test_a_deleted_collection_leaves_no_files(tmp_path: Path) -> None:
    with collections_in(f"lance://{tmp_path}/lance", tmp_path) as collections:
        collections.create("cats").put([make_image(0)])
        assert len(list((tmp_path / "lance").glob("collection-*"))) == 1
        collections.delete("cats")
        assert list((tmp_path / "lance").glob("collection-*")) == []


def test_no_credentials(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # Where a machine of Amazon's would ask for some: nobody is there.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreAccessDenied, match="no credentials were found"):
        open_here(tmp_path, store=s3_url)


def test_wrong_credentials(s3_url: str, s3: S3Server, tmp_path: Path) -> None:
    with opened(tmp_path, store=s3_url) as library:
        library.put([make_image(0)])
        with s3.refusing():
            assert "does not exist in our records" in reason(s3_url, tmp_path / "b")
            for call in (
                lambda: library.put([make_image(1)]),
                lambda: library.get([make_id(0)]),
            ):
                with pytest.raises(StoreAccessDenied):
                    call()
        library.put([make_image(2)])
        assert_found(library, [0, 2])
        assert library.get([make_id(1)]) == [None]


def test_no_such_bucket(s3_url: str, tmp_path: Path) -> None:
    assert "bucket does not exist" in reason("s3://precis-nowhere", tmp_path)


def test_nobody_listens(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreUnreachable, match="does not answer"):
        open_here(tmp_path, store="s3://precis-elsewhere")


def test_a_server_that_is_gone_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{server.new_bucket()}"
        with opened(tmp_path, store=url) as library:
            library.put([make_image(0)])
            server.stop()
            with pytest.raises(StoreUnreachable):
                library.put([make_image(1)])
            with pytest.raises(StoreUnreachable):
                library.get([make_id(0)])
            server.start()
            library.put([make_image(2)])
            assert_found(library, [0, 2])
            assert library.get([make_id(1)]) == [None]


# What Lance said where it met these, with addresses of no real place.
@pytest.mark.parametrize(
    ("message", "kind", "told"),
    [
        (
            "LanceError(IO): Generic GCS error: Error performing token request: Error performing"
            " GET http://metadata/x in 6ms - Server returned non-2xx status code: 403 Forbidden:",
            StoreAccessDenied,
            "no credentials were found",
        ),
        (
            "LanceError(IO): Generic S3 error: Error performing list request: Error performing GET"
            " http://s3/x in 215ms, after 2 retries, max_retries: 2, retry_timeout: 5s  - HTTP"
            " error: error sending request, /a/b.rs:1576:42",
            StoreUnreachable,
            "Lance: the object store does not answer",
        ),
        (
            "LanceError(IO): Generic LocalFileSystem error: Unable to open file /x/y: No space left"
            " on device (os error 28), /a/b.rs:10:1",
            StoreFull,
            "Lance: no space is left",
        ),
        (
            "LanceError(IO): Permission denied (os error 13), /a/b.rs:10:1",
            StoreReadOnly,
            "Lance: the folder cannot be written",
        ),
        (
            "Invalid user input: no storage account configured., /a/b.rs:232:45\nmore",
            StoreError,
            "Lance: Invalid user input: no storage account configured.",
        ),
    ],
)
def test_errors_are_told_in_one_line(
    message: str, kind: type[StoreError], told: str
) -> None:
    with pytest.raises(kind) as caught, lance_errors():
        raise OSError(message)
    assert type(caught.value) is kind
    assert str(caught.value).endswith(told)


def test_urls_that_lead_nowhere(tmp_path: Path) -> None:
    assert "whole path" in reason("lance://relative/path", tmp_path)
    assert "needs the name of a bucket" in reason("s3://", tmp_path)


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    reason(f"lance://{tmp_path}/file", tmp_path / "a")


def test_versions_that_are_gone_while_the_images_are_there(place: Path) -> None:
    versions = place / "_versions"
    versions.rename(place / "kept")
    assert "restore `_versions`" in reason(url_of(place), place.parent / "b")
    (place / "kept").rename(versions)
    with opened(place.parent / "b", store=url_of(place)) as library:
        assert_found(library, range(3))


def test_a_dataset_whose_making_was_interrupted(place: Path) -> None:
    """A file with the first head and no version: what a crash leaves before the first commit."""
    other = place.parent / "other" / "library.lance"
    Dataset(str(other))
    shutil.rmtree(other / "_versions")
    with opened(place.parent / "b", store=url_of(other)) as library:
        library.put([make_image(0)])
        assert_found(library, [0])


def test_a_newest_version_that_was_not_written_whole(place: Path) -> None:
    newest = min((place / "_versions").glob("*.manifest"))
    newest.write_bytes(b"")
    with pytest.raises(StoreDamaged):
        open_here(place.parent / "b", store=url_of(place))


def test_a_data_file_that_is_missing_or_cut_short(place: Path) -> None:
    data = {path: path.read_bytes() for path in (place / "data").iterdir()}
    for path, content in data.items():
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreDamaged):
        open_here(place.parent / "b", store=url_of(place))
    for path in data:
        path.unlink()
    with pytest.raises(StoreDamaged):
        open_here(place.parent / "b", store=url_of(place))
    for path, content in data.items():
        path.write_bytes(content)
    with opened(place.parent / "b", store=url_of(place)) as library:
        assert_found(library, range(3))


def test_a_later_version(place: Path) -> None:
    rewrite(place, "head", sealed({**stored_head(place), "version": 99}))
    with pytest.raises(StoreTooNew, match="format 99"):
        open_here(place.parent / "b", store=url_of(place))


def test_a_head_with_another_checksum(place: Path) -> None:
    rewrite(place, "head", json.dumps({**stored_head(place), "images": 4}).encode())
    with pytest.raises(StoreDamaged, match="head of the dataset is damaged"):
        open_here(place.parent / "b", store=url_of(place))


def test_a_record_of_another_version(place: Path) -> None:
    body = bytearray(stored(place, f"image:{make_id(1)}")[:-8])
    body[4] = 99
    rewrite(place, f"image:{make_id(1)}", bytes(body) + checksum(bytes(body), 8))
    with opened(place.parent / "b", store=url_of(place)) as library:
        with pytest.raises(RecordDamaged, match="not a record of version") as caught:
            library.get([make_id(1)])
        assert caught.value.id == make_id(1)
        assert_kept(library, 0)


def stored(place: Path, key: str) -> bytes:
    """The bytes of a line, read behind the store's back."""
    table = lance.dataset(str(place)).to_table(["data"], filter=f"id = '{key}'")
    (data,) = table.column("data").to_pylist()
    return bytes(data)


def stored_head(place: Path) -> dict[str, object]:
    head: dict[str, object] = json.loads(stored(place, "head"))
    return head


def rewrite(place: Path, key: str, data: bytes) -> None:
    """Replaces the bytes of a line behind the store's back."""
    value = f"decode('{data.hex()}', 'hex')"
    lance.dataset(str(place)).update({"data": value}, where=f"id = '{key}'")


def sealed(head: dict[str, object]) -> bytes:
    """A head as docs/storage.md describes it."""
    body = {name: value for name, value in head.items() if name != "blake2b"}
    text = json.dumps(body, sort_keys=True)
    return json.dumps({**body, "blake2b": checksum(text.encode(), 8).hex()}).encode()


def test_a_head_comes_back_as_it_was() -> None:
    head = Head("ab", 7, 2, 5, 1000, 200, 300, 40)
    assert decode_head(encode_head(head)) == head


GOLDEN_HEAD = (
    b'{"version": 1, "store_id": "00112233aabbccdd", "last_row": 7, "last_removal": 2,'
    b' "images": 5, "token_bytes": 1000, "embedding_bytes": 200, "record_bytes": 300,'
    b' "picture_bytes": 40, "blake2b": "a0e07266c366f540"}'
)


def test_the_bytes_of_a_head_do_not_change() -> None:
    head = Head("00112233aabbccdd", 7, 2, 5, 1000, 200, 300, 40)
    assert encode_head(head) == GOLDEN_HEAD
