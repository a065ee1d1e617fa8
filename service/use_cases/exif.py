"""Date, camera and place of a photograph, from its EXIF block to its metadata.

The metadata hold them under one key:
{"exif": {"taken_at": "2024-05-01T12:34:56", "utc_offset": "+02:00", "camera": "Canon EOS R5",
"latitude": 48.2, "longitude": -16.37, "altitude_m": 171.0}}. Every member may be absent.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

EXIF = "exif"  # key of the metadata
TAKEN_AT = "taken_at"
TAKEN_AT_NAME = f"{EXIF}.{TAKEN_AT}"  # as filters call it
MAX_CAMERA_CHARACTERS = 128

_Tags = Mapping[int, Any]
_Reader = Callable[[_Tags], dict[str, Any]]
_OFFSET = re.compile(r"[+-]\d{2}:\d{2}")
_MAX_DEGREES = {ExifTags.GPS.GPSLatitude: 90, ExifTags.GPS.GPSLongitude: 180}
_DEGREE_PLACES = 6  # 0.1 m
_DAMAGED = "The EXIF block is damaged; it was ignored."


@dataclass
class ExifFound:
    """What an EXIF block says, and notes of what could not be read."""

    metadata: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def read(self, name: str, reader: _Reader, tags: _Tags) -> None:
        """Adds what `reader` finds in the tags, or a note that it is unreadable."""
        try:
            self.metadata |= reader(tags)
        except (ValueError, TypeError, ZeroDivisionError, OverflowError):
            self.notes.append(f"The {name} in the EXIF block is unreadable.")


def read_exif(image: Image.Image) -> ExifFound:
    """What the EXIF block of an opened image says; a damaged block becomes a note."""
    found = ExifFound()
    try:
        exif = image.getexif()
        camera = dict(exif)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:
        # Pillow's parser raises almost any exception on broken bytes.
        return ExifFound(notes=[_DAMAGED])
    if image.info.get("exif") and not camera:
        return ExifFound(notes=[_DAMAGED])
    found.read("date", _taken_at, details)
    found.read("camera", _camera, camera)
    found.read("place", _place, place)
    found.read("altitude", _altitude, place)
    return found


def taken_at(metadata: Mapping[str, Any]) -> str:
    """When a photograph was taken, by its metadata: ISO 8601, local time; empty if unknown."""
    # Clients may write anything under the key.
    exif = metadata.get(EXIF)
    text = exif.get(TAKEN_AT) if isinstance(exif, Mapping) else None
    return text if isinstance(text, str) else ""


def _taken_at(tags: _Tags) -> dict[str, Any]:
    # Not the tag DateTime: that is of the last change of the file.
    base = ExifTags.Base
    text = _text(tags.get(base.DateTimeOriginal) or tags.get(base.DateTimeDigitized))
    # A camera whose clock was never set writes zeros or blanks.
    if not text.strip(" :0"):
        return {}
    moment = datetime.strptime(text, "%Y:%m:%d %H:%M:%S")  # local time
    found = {TAKEN_AT: moment.isoformat()}
    offset = _text(tags.get(base.OffsetTimeOriginal))
    if _OFFSET.fullmatch(offset):
        found["utc_offset"] = offset
    return found


def _camera(tags: _Tags) -> dict[str, Any]:
    make = _text(tags.get(ExifTags.Base.Make))
    model = _text(tags.get(ExifTags.Base.Model))
    # Many makers repeat their name in the model.
    is_repeated = model.lower().startswith(make.lower())
    name = model if is_repeated else f"{make} {model}".strip()
    return {"camera": name[:MAX_CAMERA_CHARACTERS]} if name else {}


def _place(tags: _Tags) -> dict[str, Any]:
    gps = ExifTags.GPS
    if gps.GPSLatitude not in tags and gps.GPSLongitude not in tags:
        return {}
    latitude = _degrees(tags, gps.GPSLatitude, gps.GPSLatitudeRef, ("N", "S"))
    longitude = _degrees(tags, gps.GPSLongitude, gps.GPSLongitudeRef, ("E", "W"))
    return {"latitude": latitude, "longitude": longitude}


def _degrees(
    tags: _Tags,
    tag: ExifTags.GPS,
    reference: ExifTags.GPS,
    directions: tuple[str, str],
) -> float:
    degrees, minutes, seconds = map(float, tags.get(tag) or ())
    value = degrees + minutes / 60 + seconds / 3600
    direction = _text(tags.get(reference)).upper()
    is_known = direction in directions
    if not is_known or not 0 <= value <= _MAX_DEGREES[tag]:
        raise ValueError(f"{value} {direction} is no place on Earth")
    positive, _ = directions
    return round(value if direction == positive else -value, _DEGREE_PLACES)


def _altitude(tags: _Tags) -> dict[str, Any]:
    if ExifTags.GPS.GPSAltitude not in tags:
        return {}
    metres = float(tags[ExifTags.GPS.GPSAltitude])
    if not math.isfinite(metres):
        raise ValueError("an altitude must be finite")
    below_sea = tags.get(ExifTags.GPS.GPSAltitudeRef) in (1, b"\x01")
    return {"altitude_m": round(-metres if below_sea else metres, 1)}


def _text(value: Any) -> str:
    """A tag's text, composed, without the padding and control characters that cameras write."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        return ""
    text = unicodedata.normalize("NFC", value.partition("\0")[0])
    return "".join(each for each in text if each.isprintable()).strip()
