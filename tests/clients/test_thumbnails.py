"""`precis search --thumbnails` in a terminal, which the test plays at the other end of a pty."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from precis_client import Precis
from precis_client.cli import main
from tests.clients.conftest import Draw
from tests.clients.serving import served

LINES, COLUMNS = 40, 100
CELL_PX = (10, 20)
ASKS_ATTRIBUTES = b"\x1b[c"  # of the device: 4 among them is Sixel
ASKS_KITTY = re.compile(rb"\x1b_G([^;]*a=q[^;]*);[^\x1b]*\x1b\\")
SIXEL, KITTY, HALF_CELL = b"\x1bP", b"\x1b_Gi=", "▀".encode()


def in_terminal(url: str, *, has_sixel: bool, has_kitty: bool) -> bytes:
    """What a search for red prints to a terminal with these graphics."""
    ours, theirs = pty.openpty()
    size = struct.pack("HHHH", LINES, COLUMNS, COLUMNS * CELL_PX[0], LINES * CELL_PX[1])
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    command = [sys.executable, "-m", "precis_client", "search", "red", "--thumbnails"]
    environment = {**os.environ, "PRECIS_URL": url, "TERM": "xterm-256color"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        printed = b""
        answered = 0
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # EIO: nobody holds the other end any more
                break
            if not piece:
                break
            printed += piece
            if ASKS_ATTRIBUTES in printed[answered:]:
                answered = printed.index(ASKS_ATTRIBUTES) + len(ASKS_ATTRIBUTES)
                os.write(ours, b"\x1b[?62;4c" if has_sixel else b"\x1b[?62c")
            asked = ASKS_KITTY.search(printed, answered)
            if asked and has_kitty:
                answered = asked.end()
                number = re.search(rb"i=(\d+)", asked[1])
                assert number is not None
                os.write(ours, b"\x1b_Gi=%s;OK\x1b\\" % number[1])
        assert process.wait(60) == 0, printed
    os.close(ours)
    return printed


@pytest.mark.parametrize(
    ("has_sixel", "has_kitty", "mark", "others"),
    [
        (True, False, SIXEL, (HALF_CELL,)),
        (False, True, KITTY, (SIXEL, HALF_CELL)),
        (False, False, HALF_CELL, (SIXEL,)),
    ],
    ids=["sixel", "kitty", "neither"],
)
def test_a_terminal_shows_what_it_can(
    precis: Precis,
    draw: Draw,
    has_sixel: bool,
    has_kitty: bool,
    mark: bytes,
    others: tuple[bytes, ...],
) -> None:
    (image,) = precis.add(draw("red.png", "red"))
    printed = in_terminal(precis.url, has_sixel=has_sixel, has_kitty=has_kitty)
    line = printed.index(image.id.encode())
    assert mark in printed[line:], printed[line:][:500]
    for other in others:
        assert other not in printed[line:]


def test_a_service_without_pictures_shows_none(tmp_path: Path, draw: Draw) -> None:
    with served(tmp_path / "data", keep="none") as url, Precis(url) as precis:
        (image,) = precis.add(draw("red.png", "red"))
        printed = in_terminal(url, has_sixel=True, has_kitty=False)
    assert image.id.encode() in printed
    assert SIXEL not in printed


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 1, "--thumbnails needs a terminal"),
        (("--paths",), 2, "not for --paths"),
        (("--json",), 2, "not for --paths, -0 or --json"),
    ],
)
def test_elsewhere_it_is_refused(
    url: str, arguments: tuple[str, ...], status: int, said: str
) -> None:
    command = ["search", "red", "--thumbnails", "--url", url, *arguments]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == status
    assert said in refused.stderr
