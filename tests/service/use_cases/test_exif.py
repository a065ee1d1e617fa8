"""Date, camera and place out of EXIF blocks, good and broken."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from service.use_cases.exif import MAX_CAMERA_CHARACTERS, taken_at
from service.use_cases.images import Decoded, decode

BASE, GPS, IFD = ExifTags.Base, ExifTags.GPS, ExifTags.IFD
DATE = "2024:05:01 12:34:56"
VIENNA = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (48.0, 12.0, 30.0),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (16.0, 22.0, 12.0),
    GPS.GPSAltitude: 171.04,
}


def photograph(
    tags: dict[int, Any] | None = None,
    details: dict[int, Any] | None = None,
    place: dict[int, Any] | None = None,
    format: str = "JPEG",
) -> bytes:
    return with_block(exif_block(tags, details, place), format)


def exif_block(
    tags: dict[int, Any] | None = None,
    details: dict[int, Any] | None = None,
    place: dict[int, Any] | None = None,
) -> bytes:
    exif = Image.Exif()
    exif.update(tags or {})
    exif.get_ifd(IFD.Exif).update(details or {})
    exif.get_ifd(IFD.GPSInfo).update(place or {})
    return exif.tobytes()


def with_block(block: bytes, format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, format, exif=block)
    return buffer.getvalue()


def decoded(data: bytes) -> Decoded:
    return decode(data, max_pixels=1000, max_side_px=100)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_date_camera_and_place_are_found(format: str) -> None:
    data = photograph(
        {BASE.Make: "Canon", BASE.Model: "Canon EOS R5"},
        {BASE.DateTimeOriginal: DATE, BASE.OffsetTimeOriginal: "+02:00"},
        VIENNA,
        format,
    )
    found = decoded(data)
    assert found.exif == {
        "taken_at": "2024-05-01T12:34:56",
        "utc_offset": "+02:00",
        "camera": "Canon EOS R5",
        "latitude": 48.208333,
        "longitude": 16.37,
        "altitude_m": 171.0,
    }
    assert list(found.notes) == []


def test_a_picture_without_exif_has_nothing_and_no_note() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    found = decoded(buffer.getvalue())
    assert (dict(found.exif), list(found.notes)) == ({}, [])


def test_south_west_and_below_the_sea_are_negative() -> None:
    place = VIENNA | {
        GPS.GPSLatitudeRef: "S",
        GPS.GPSLongitudeRef: "W",
        GPS.GPSAltitudeRef: b"\1",
    }
    exif = decoded(photograph(place=place)).exif
    assert (exif["latitude"], exif["longitude"]) == (-48.208333, -16.37)
    assert exif["altitude_m"] == -171.0


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("NIKON CORPORATION", "NIKON D90", "NIKON CORPORATION NIKON D90"),
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("", "X100\0\0\0junk", "X100"),
        ("Apple", "", "Apple"),
        ("", "a\x1b[31m\n" + "b" * 1000, "a[31m" + "b" * (MAX_CAMERA_CHARACTERS - 5)),
    ],
)
def test_a_camera_is_its_maker_and_model(make: str, model: str, camera: str) -> None:
    exif = decoded(photograph({BASE.Make: make, BASE.Model: model})).exif
    assert exif == {"camera": camera}


@pytest.mark.parametrize("unset", ["0000:00:00 00:00:00", "    :  :     :  :  ", ""])
def test_a_clock_that_was_never_set_gives_no_date(unset: str) -> None:
    found = decoded(photograph(details={BASE.DateTimeOriginal: unset}))
    assert (dict(found.exif), list(found.notes)) == ({}, [])


@pytest.mark.parametrize("date", ["2024:13:01 00:00:00", "yesterday", "2024-05-01"])
def test_a_date_that_is_none_is_noted(date: str) -> None:
    details = {BASE.DateTimeOriginal: date}
    found = decoded(photograph({BASE.Model: "X100"}, details))
    assert found.exif == {"camera": "X100"}
    assert list(found.notes) == ["The date in the EXIF block is unreadable."]


@pytest.mark.parametrize(
    "wrong",
    [
        {GPS.GPSLatitude: (91.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (IFDRational(0, 0),) * 3},
        {GPS.GPSLatitude: (1.0, 2.0)},
        {GPS.GPSLongitudeRef: "?"},
        {GPS.GPSLongitudeRef: ""},
    ],
)
def test_a_place_that_is_none_is_noted(wrong: dict[int, Any]) -> None:
    found = decoded(photograph(place=VIENNA | wrong))
    assert found.exif == {"altitude_m": 171.0}
    assert list(found.notes) == ["The place in the EXIF block is unreadable."]


def test_a_broken_block_is_ignored_and_noted() -> None:
    found = decoded(with_block(b"Exif\0\0no TIFF header"))
    assert found.image.size == (8, 8)
    assert dict(found.exif) == {}
    assert list(found.notes) == ["The EXIF block is damaged; it was ignored."]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(st.data(), st.binary(min_size=1, max_size=6))
@settings(max_examples=60)
def test_no_damage_to_a_block_costs_the_picture(
    data: st.DataObject, junk: bytes
) -> None:
    block = exif_block({BASE.Model: "X"}, {BASE.DateTimeOriginal: DATE}, VIENNA)
    start = data.draw(st.integers(len(b"Exif00"), len(block) - len(junk)))
    broken = block[:start] + junk + block[start + len(junk) :]
    assert decoded(with_block(broken)).image.size == (8, 8)


@pytest.mark.parametrize("exif", [None, [], "x", {"taken_at": 5}])
def test_other_metadata_under_the_key_have_no_date(exif: Any) -> None:
    assert taken_at({"exif": exif}) == ""
    assert taken_at({}) == ""
