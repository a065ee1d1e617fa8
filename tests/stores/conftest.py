"""One server of each kind for all tests of a run, and a new place on it for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.stores.faulty_s3 import FaultyS3
from tests.stores.postgres_server import PostgresServer, running_server
from tests.stores.s3_server import S3Server, running_s3_server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def database(server: PostgresServer) -> str:
    """The name of a new database."""
    return server.new_database()


@pytest.fixture
def url(server: PostgresServer, database: str) -> str:
    """Where a new database is."""
    return server.url(database)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_url(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a new bucket is; the environment leads to its server."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.new_bucket()}"


@pytest.fixture
def proxy(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """A way to the server that can be made to fail; the environment leads there."""
    with closing(FaultyS3(s3)) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def proxied_url(proxy: FaultyS3, s3: S3Server) -> str:
    """Where a new bucket is, through the proxy."""
    return f"s3://{s3.new_bucket()}"


@pytest.fixture
def folder_url(tmp_path: Path) -> str:
    """Where a new folder of datasets is."""
    return f"lance://{tmp_path / 'lance'}"


@pytest.fixture(params=["folder_url", "s3_url"])
def lance_url(request: pytest.FixtureRequest) -> str:
    """A place for datasets, of each kind there is."""
    return place(request)


@pytest.fixture(params=["url", "folder_url"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """A place for a library that several processes share, one for each engine."""
    return place(request)


@pytest.fixture(params=["url", "folder_url", "s3_url"])
def any_url(request: pytest.FixtureRequest) -> str:
    """A place for a library that several processes share, of each kind there is."""
    return place(request)


def place(request: pytest.FixtureRequest) -> str:
    """The place that the fixture named by the parameter makes."""
    if request.param != "url":
        pytest.importorskip("lance")
    url: str = request.getfixturevalue(request.param)
    return url
