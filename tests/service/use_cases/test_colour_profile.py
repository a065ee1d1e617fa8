"""Pictures with ICC profiles, whose colours become sRGB."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, ImageCms

from service.use_cases.images import Decoded, decode

GREY = (128, 128, 128)


def profile_of(name: str) -> bytes:
    """A profile that Pillow makes itself."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def swapped_profile() -> bytes:
    """An sRGB profile under another name, whose red and green are swapped."""
    profile = profile_of("sRGB").replace(
        "sRGB".encode("utf-16-be"), "test".encode("utf-16-be")
    )
    profile = profile.replace(b"sRGB built-in", b"test built-in")
    return (
        profile.replace(b"rXYZ", b"?XYZ")
        .replace(b"gXYZ", b"rXYZ")
        .replace(b"?XYZ", b"gXYZ")
    )


def picture(mode: str, colour: Any, profile: bytes, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8), colour).save(buffer, format, icc_profile=profile)
    return buffer.getvalue()


def decoded(data: bytes) -> Decoded:
    return decode(data, max_pixels=1000, max_side_px=100)


@pytest.mark.parametrize(
    ("mode", "colour", "format"),
    [
        ("RGB", (255, 0, 0), "PNG"),
        ("RGB", (255, 0, 0), "JPEG"),
        ("RGBA", (255, 0, 0, 255), "PNG"),
    ],
)
def test_a_profile_says_what_the_colours_mean(
    mode: str, colour: Any, format: str
) -> None:
    found = decoded(picture(mode, colour, swapped_profile(), format))
    red, green, blue = found.image.getpixel((4, 4))
    assert green > 240
    assert max(red, blue) < 40
    assert list(found.notes) == []


def test_transparency_stays_on_white() -> None:
    found = decoded(picture("RGBA", (255, 0, 0, 0), swapped_profile()))
    assert found.image.getpixel((4, 4)) == (255, 255, 255)


def test_pixels_of_srgb_are_left_exactly_as_they_are() -> None:
    found = decoded(picture("RGB", (1, 77, 200), profile_of("sRGB")))
    assert found.image.getpixel((4, 4)) == (1, 77, 200)
    assert list(found.notes) == []


def test_a_grey_picture_may_have_a_profile_of_three_colours() -> None:
    found = decoded(picture("L", 128, swapped_profile()))
    assert found.image.mode == "RGB"
    assert list(found.notes) == []


@pytest.mark.parametrize(
    ("mode", "colour", "profile"),
    [
        ("RGB", GREY, b"no profile"),
        ("RGB", GREY, swapped_profile()[:300]),
        ("RGB", GREY, profile_of("LAB")),
        ("CMYK", (0, 0, 0, 128), swapped_profile()),
    ],
    ids=["junk", "cut", "LAB", "for another mode"],
)
def test_a_profile_that_cannot_be_used_is_noted(
    mode: str, colour: Any, profile: bytes
) -> None:
    found = decoded(picture(mode, colour, profile, "TIFF"))
    red, _, _ = found.image.getpixel((4, 4))
    assert abs(red - 128) < 4
    assert list(found.notes) == [
        "The colour profile is damaged or does not fit; it was ignored."
    ]
