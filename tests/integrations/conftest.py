"""A service that knows probabilities, with three pictures in it; its clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from index.calibration import write_calibration
from precis_client import Precis
from tests.clients.conftest import Draw, draw
from tests.clients.serving import served
from tests.fakes.model import made_up_calibration

__all__ = ["draw"]
COLOURS = ("red", "green", "blue")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    calibration = tmp_path / "calibration.json"
    write_calibration(made_up_calibration(), calibration)
    with served(tmp_path / "data", calibration=calibration) as address:
        yield address


@pytest.fixture
def precis(url: str) -> Iterator[Precis]:
    with Precis(url) as client:
        yield client


@pytest.fixture
def stored(precis: Precis, draw: Draw) -> dict[str, str]:
    """The id of each picture by its colour."""
    stored = {}
    for colour in COLOURS:
        metadata = {"filename": f"{colour}.png", "tags": [colour]}
        (image,) = precis.add(draw(f"{colour}.png", colour), metadata=metadata)
        stored[colour] = image.id
    return stored
