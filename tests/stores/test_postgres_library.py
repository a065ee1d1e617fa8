"""Libraries in PostgreSQL: damage, restarts, and what a user is told when it cannot be used."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from index.errors import (
    StoreAccessDenied,
    StoreDamaged,
    StoreReadOnly,
    StoreTooNew,
    StoreUnreachable,
    UnknownEngine,
    WrongFingerprint,
)
from tests.eventually import eventually
from tests.index.libraries import assert_found, assert_kept, open_here, opened, top
from tests.index.samples import OTHER_FINGERPRINT, make_id, make_image, make_images
from tests.stores.opening import collections_in, reason
from tests.stores.postgres_server import PostgresServer

pytestmark = pytest.mark.stores


def test_a_deleted_collection_leaves_no_tables(
    url: str, server: PostgresServer, database: str, tmp_path: Path
) -> None:
    query = "SELECT count(*) FROM pg_tables WHERE tablename = 'images'"
    with collections_in(url, tmp_path) as collections:
        collections.create("cats").put([make_image(0)])
        (before,) = server.execute(query, database)
        collections.create("dogs").put([make_image(0)])
        collections.delete("dogs")
        assert server.execute(query, database) == [before]


def test_a_file_that_would_lie_outside_is_refused(
    url: str, server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with opened(tmp_path / "a", store=url) as library:
        library.put([make_image(0)])
        state = tmp_path / "a" / "codecs" / "pq4@00.faiss"
        state.parent.mkdir()
        state.write_bytes(b"trained")
    with opened(tmp_path / "a", store=url):
        pass
    server.execute("UPDATE precis.files SET name = '../outside'", database)
    with pytest.raises(StoreDamaged, match="outside"):
        open_here(tmp_path / "b", store=url)


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


def test_credentials_that_no_longer_hold(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    """A role has expired, or its password was changed, while the library is open."""
    server.execute("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'app'")
    url = server.url(database, "app").replace("precis:", "app:")
    with opened(tmp_path / "a", store=url) as library:
        library.put([make_image(0)])
        server.execute("ALTER ROLE app VALID UNTIL '2000-01-01'")
        server.stop()
        server.start()
        for call in (
            lambda: library.put([make_image(1)]),
            lambda: library.get([make_id(0)]),
            lambda: open_here(tmp_path / "b", store=url),
        ):
            with pytest.raises(StoreUnreachable, match="authentication failed") as told:
                call()
            assert "\n" not in str(told.value)
        server.execute("ALTER ROLE app VALID UNTIL 'infinity'")
        library.put([make_image(2)])
        assert_found(library, [0, 2])
        assert library.get([make_id(1)]) == [None]


def test_a_role_whose_connections_are_all_in_use(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    server.execute("CREATE ROLE single LOGIN PASSWORD 'single' CONNECTION LIMIT 0")
    url = server.url(database, "single").replace("precis:", "single:")
    assert "too many connections" in reason(url, tmp_path)
    with pytest.raises(StoreUnreachable):
        open_here(tmp_path, store=url)


def test_a_slow_database_keeps_the_writer_waiting(
    url: str, server: PostgresServer, tmp_path: Path
) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with (
        opened(tmp_path / "a", store=url) as library,
        opened(tmp_path / "b", store=url) as reader,
    ):
        library.put([make_image(0)])
        with psycopg.connect(url) as other:
            other.execute("LOCK TABLE precis.images IN EXCLUSIVE MODE")
            writer = threading.Thread(target=library.put, args=(make_images([1]),))
            writer.start()
            eventually(lambda: server.execute(waiting) != [(0,)])
            # Others are served meanwhile, and see nothing of it.
            assert_found(reader, [0])
            assert reader.get([make_id(1)]) == [None]
        writer.join()
        assert_found(reader, [0, 1])
