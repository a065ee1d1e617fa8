"""HEIC pictures, with pillow-heif and without it."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from service.errors import ImageDamaged, NotAnImage
from service.use_cases.heic import can_read_heic
from service.use_cases.images import Decoded, decode
from tests.service.conftest import Start, ids, send

# 48 x 32, left half red and right half blue, turned upright by the file; EXIF with a camera.
GOLDEN = Path(__file__).parents[2] / "golden" / "red-blue.heic"


def decoded(data: bytes) -> Decoded:
    return decode(data, max_pixels=10_000, max_side_px=100)


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    can_read_heic.cache_clear()
    yield
    can_read_heic.cache_clear()


def test_a_heic_picture_is_decoded_upright_with_its_exif() -> None:
    found = decoded(GOLDEN.read_bytes())
    assert (found.width_px, found.height_px) == (32, 48)
    assert found.media_type == "image/heif"
    assert found.exif == {"camera": "X100"}
    assert list(found.notes) == []
    red, blue = found.image.getpixel((16, 8)), found.image.getpixel((16, 40))
    assert isinstance(red, tuple)
    assert isinstance(blue, tuple)
    assert red[0] > 200 > red[2]
    assert blue[2] > 200 > blue[0]


def test_an_original_in_heic_has_a_thumbnail(start: Start) -> None:
    client = start(keep="original")
    response = send(client, GOLDEN.read_bytes())
    (image_id,) = ids(response.json()["images"])
    small = client.get(f"/images/{image_id}/thumbnail")
    assert small.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(small.content)) as thumbnail:
        assert thumbnail.size == (32, 48)


@pytest.mark.parametrize("length", [40, 300, 560])
def test_a_heic_picture_cut_short_is_refused(length: int) -> None:
    with pytest.raises((ImageDamaged, NotAnImage)):
        decoded(GOLDEN.read_bytes()[:length])


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_the_error_names_it() -> None:
    with pytest.raises(NotAnImage, match="extra `heic`"):
        decoded(GOLDEN.read_bytes())
    with pytest.raises(NotAnImage, match="known format"):
        decoded(b"something else")
