"""No command takes an option that it does not use."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import click
import pytest
from click.testing import CliRunner

from precis_client.cli import TABLE, main
from precis_client.command_tables import LazyGroup
from tests.clients.command_walk import every_command
from tests.clients.conftest import Draw

# What they do is about the whole service; `mcp` speaks to it when its host does.
OF_THE_SERVICE = {
    ("collections", "list"),
    ("collections", "create"),
    ("collections", "delete"),
    ("info",),
}
LATER = {("mcp",)}


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a service without anything in it, and the paths it was asked for."""
    paths: list[str] = []

    class Nothing(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            paths.append(self.path)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


def commands_of_the_client() -> dict[tuple[str, ...], click.Command]:
    client = LazyGroup("precis", commands=TABLE.commands)
    return {
        path: command
        for path, command in every_command(client)
        if not isinstance(command, click.Group)
    }


def has_option(command: click.Command, name: str) -> bool:
    return any(name in parameter.opts for parameter in command.params)


def arguments(command: click.Command, folder: Path) -> list[str]:
    """A value for each argument of a command, and an end for one that goes on."""
    words = ["--once"] if has_option(command, "--once") else []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            is_path = isinstance(parameter.type, click.Path)
            words.append(str(folder) if is_path else "abc")
    return words


def test_commands_about_the_service_take_no_collection() -> None:
    commands = commands_of_the_client()
    without = {
        path for path in commands if not has_option(commands[path], "--collection")
    }
    assert without == OF_THE_SERVICE


@pytest.mark.parametrize(
    "path",
    sorted(commands_of_the_client().keys() - OF_THE_SERVICE - LATER),
    ids=" ".join,
)
def test_a_command_works_in_the_collection_that_it_is_given(
    path: tuple[str, ...],
    asked: tuple[str, list[str]],
    draw: Draw,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    url, paths = asked
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = draw("in/red.png", "red").parent
    words = [*path, *arguments(commands_of_the_client()[path], folder)]
    CliRunner().invoke(main, [*words, "--url", url, "--collection", "pets"])
    collections = [parse_qs(urlsplit(path).query).get("collection") for path in paths]
    assert collections
    assert all(collection == ["pets"] for collection in collections)


@pytest.mark.parametrize(
    "words",
    [
        ("ask", "what?", "--image", "abc", "--limit", "2"),
        ("ask", "what?", "--image", "abc", "--tag", "trip"),
        ("ask", "what?", "--image", "abc", "--where", "{}"),
        ("ask", "what?", "--image", "abc", "--library"),
        ("search", "a cat", "--json", "--paths"),
        ("search", "a cat", "--json", "-0"),
        ("search", "a cat", "--thumbnails", "--paths"),
        ("search", "a cat", "--like", "abc", "--min-probability", "0.5"),
    ],
    ids=" ".join,
)
def test_options_of_which_one_would_be_ignored_are_a_usage_error(
    words: tuple[str, ...], asked: tuple[str, list[str]]
) -> None:
    url, paths = asked
    refused = CliRunner().invoke(main, [*words, "--url", url])
    assert refused.exit_code == 2
    assert paths == []
