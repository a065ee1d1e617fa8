"""A service for each test, and pictures to send it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from precis_client import Precis
from tests.clients.serving import served
from tests.service.conftest import picture

Draw = Callable[..., Path]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path / "data") as address:
        yield address


@pytest.fixture
def precis(url: str) -> Iterator[Precis]:
    with Precis(url) as client:
        yield client


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Writes a picture of one colour and returns its path."""

    def draw(name: str, colour: str, size: tuple[int, int] = (40, 30)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(colour, size))
        return path

    return draw
