"""Libraries and collections in PostgreSQL, and what a user is told when it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from index.collections import Collections
from index.errors import (
    CodecStateMissing,
    CollectionExists,
    CollectionMissing,
    StoreAccessDenied,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
    StoreTooNew,
    StoreUnreachable,
    UnknownEngine,
    WrongFingerprint,
)
from index.library import Library
from index.registry import StorePlace, store_engine
from tests.eventually import eventually
from tests.index.libraries import assert_found, assert_kept, open_here, opened, top
from tests.index.samples import OTHER_FINGERPRINT, make_id, make_image, make_images
from tests.stores.postgres_server import PostgresServer

pytestmark = pytest.mark.stores


@contextmanager
def collections_in(url: str, folder: Path) -> Iterator[Collections]:
    def open_collection(path: Path) -> Library:
        return open_here(path, store=url, collection=path.name)

    names = store_engine(url).collections(StorePlace(folder, url))
    collections = Collections(folder, open_collection, names)
    try:
        yield collections
    finally:
        collections.close()


def reason(url: str, folder: Path) -> str:
    with pytest.raises(StoreError) as caught:
        open_here(folder, store=url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_library_is_there_after_a_restart(url: str, tmp_path: Path) -> None:
    with opened(tmp_path / "a", store=url) as library:
        library.put(make_images(range(4)))
        library.delete([make_id(2)])
    # In another folder: all that cannot be derived is in the database.
    with opened(tmp_path / "b", store=url) as library:
        for number in (0, 1, 3):
            assert_kept(library, number)
        assert_found(library, [0, 1, 3])
        assert library.get([make_id(2)]) == [None]


def test_one_process_has_a_folder(url: str, tmp_path: Path) -> None:
    with opened(tmp_path, store=url), pytest.raises(StoreBusy):
        open_here(tmp_path, store=url)


def test_collections_are_apart_and_go_with_their_images(
    url: str, server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with collections_in(url, tmp_path) as collections:
        cats, dogs = collections.create("cats"), collections.create("dogs")
        cats.put([make_image(0)])
        assert dogs.put([make_image(0), make_image(1)])[0].created
        with pytest.raises(CollectionExists):
            collections.create("cats")
        assert collections.image_counts() == {"cats": 1, "dogs": 2}
        collections.delete("dogs")
        with pytest.raises(CollectionMissing):
            dogs.get([make_id(0)])
        assert collections.names() == ["cats"]
        assert top(collections.create("dogs"), 0) == []
    # The schemas of the library without a name and of two collections.
    query = "SELECT count(*) FROM pg_tables WHERE tablename = 'images'"
    assert server.execute(query, database) == [(3,)]
    with collections_in(url, tmp_path / "elsewhere") as collections:
        assert collections.image_counts() == {"cats": 1, "dogs": 0}
        assert top(collections.get("cats"), 0) == [make_id(0)]


def test_a_collection_deleted_elsewhere_is_gone_here(url: str, tmp_path: Path) -> None:
    with (
        collections_in(url, tmp_path / "a") as here,
        collections_in(url, tmp_path / "b") as there,
    ):
        here.create("cats").put([make_image(0)])
        assert top(there.get("cats"), 0) == [make_id(0)]
        here.delete("cats")
        with pytest.raises(CollectionMissing):
            there.get("cats")
        here.create("cats").put([make_image(1)])
        assert top(there.get("cats"), 0) == [make_id(1)]


def test_trained_codecs_are_in_the_database(
    url: str, server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with opened(tmp_path / "a", store=url) as library:
        library.put([make_image(0)])
        state = tmp_path / "a" / "codecs" / "pq4@00.faiss"
        state.parent.mkdir()
        state.write_bytes(b"trained")
    with opened(tmp_path / "a", store=url):
        pass
    with opened(tmp_path / "b", store=url):
        assert (tmp_path / "b" / "codecs" / state.name).read_bytes() == b"trained"
    server.execute("UPDATE precis.files SET name = '../outside'", database)
    with pytest.raises(StoreDamaged, match="outside"):
        open_here(tmp_path / "c", store=url)


def test_a_codec_that_nobody_has_is_missing(url: str, tmp_path: Path) -> None:
    with pytest.raises(CodecStateMissing):
        open_here(tmp_path, store=url, codec="pq4@00")


def test_wrong_credentials(server: PostgresServer, tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match="password authentication failed"):
        open_here(tmp_path, store=server.url(password="wrong"))
    message = reason(server.url(password="wrong"), tmp_path)
    assert "wrong" not in message


def test_no_such_database(server: PostgresServer, tmp_path: Path) -> None:
    assert '"nowhere" does not exist' in reason(server.url("nowhere"), tmp_path)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match="refused"):
        open_here(tmp_path, store="postgresql://x:secret@127.0.0.1:1/x")


def test_a_url_that_libpq_does_not_take(tmp_path: Path) -> None:
    message = reason("postgresql://x:secret@127.0.0.1/x?colour=red", tmp_path)
    assert "colour" in message
    assert "secret" not in message


def test_other_engines_have_no_url(tmp_path: Path) -> None:
    for setting in ("mysql://x/y", "sqlite://x/y"):
        with pytest.raises(UnknownEngine):
            open_here(tmp_path, store=setting)


def test_a_half_made_schema(
    url: str, server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with opened(tmp_path, store=url):
        pass
    server.execute("DROP TABLE precis.terms", database)
    with pytest.raises(StoreDamaged, match="lacks tables: terms"):
        open_here(tmp_path, store=url)


def test_an_empty_table_of_the_store(
    url: str, server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with opened(tmp_path, store=url):
        pass
    server.execute("DELETE FROM precis.store", database)
    with pytest.raises(StoreDamaged, match="is empty"):
        open_here(tmp_path, store=url)


def test_a_later_version(
    url: str, server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with opened(tmp_path, store=url):
        pass
    server.execute("UPDATE precis.store SET version = 99", database)
    with pytest.raises(StoreTooNew):
        open_here(tmp_path, store=url)


def test_a_user_without_rights(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    server.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    url = server.url(database, "guest").replace("precis:", "guest:")
    with pytest.raises(StoreAccessDenied, match="permission denied"):
        open_here(tmp_path, store=url)


def test_a_read_only_database(
    url: str, server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with opened(tmp_path, store=url) as library:
        library.put([make_image(0)])
    read_only = f"ALTER DATABASE {database} SET default_transaction_read_only = on"
    server.execute(read_only)
    with pytest.raises(StoreReadOnly):
        open_here(tmp_path, store=url)


def test_a_restart_of_the_server_is_survived(
    url: str, server: PostgresServer, tmp_path: Path
) -> None:
    with opened(tmp_path, store=url) as library:
        library.put([make_image(0)])
        server.stop()
        with pytest.raises(StoreUnreachable):
            library.put([make_image(1)])
        server.start()
        library.put([make_image(2)])
        assert_found(library, [0, 2])
        assert library.get([make_id(1)]) == [None]


def test_a_server_that_dies_loses_nothing_acknowledged(
    url: str, server: PostgresServer, tmp_path: Path
) -> None:
    with opened(tmp_path, store=url) as library:
        library.put(make_images(range(3)))
        server.kill()
        server.start()

        def is_back() -> bool:
            try:
                return library.get([make_id(0)]) != [None]
            except StoreUnreachable:
                return False

        eventually(is_back)
        for number in range(3):
            assert_kept(library, number)


def test_another_model_waits_until_the_library_is_closed(
    url: str, tmp_path: Path
) -> None:
    other = {"fingerprint": OTHER_FINGERPRINT}
    with opened(tmp_path / "a", store=url) as library:
        library.put([make_image(0)])
        with pytest.raises(WrongFingerprint, match="another process"):
            open_here(tmp_path / "b", store=url, **other)
        with opened(tmp_path / "c", store=url) as again:
            assert_found(again, [0])
    with opened(tmp_path / "b", store=url, **other) as library:
        assert library.get([make_id(0)]) != [None]
        assert top(library, 0) == []
