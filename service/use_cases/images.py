"""Decodes uploads into upright RGB images, and makes smaller ones. All functions are thread-safe.

The service calls `decode` in other processes, see service/decoders.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from PIL import ExifTags, Image, UnidentifiedImageError

from index.ports import Picture
from service.errors import (
    EmptyFile,
    ImageDamaged,
    NotAnImage,
    PictureError,
    TooManyPixels,
)
from service.use_cases.colour_profile import to_srgb
from service.use_cases.deep_colour import deep_rawmode, eight_bit_colour
from service.use_cases.deep_grey import eight_bit_grey
from service.use_cases.exif import read_exif
from service.use_cases.heic import HEIF, can_read_heic, is_heic
from service.use_cases.picture_repair import without_trouble_beside_pixels

# Bitmap formats that Pillow itself decodes; an extra adds HEIC. Formats that start another program
# (EPS) or refer to other files are left out for security.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
THUMBNAIL_SIDE_PX = 256
_NEEDS_EXTRA = "This is a HEIC picture; the service reads those with pillow-heif, its extra `heic`."
_REPAIRED = "Damaged or oversized parts beside the pixels were ignored."
# Pillow's errors do not tell which.
_UNREADABLE = (
    "The image is truncated or damaged, or of a variant of its format that is not read."
)
_TURNS = {  # by the EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """A decoded upload."""

    image: Image.Image  # RGB, upright, no side longer than `max_side_px`
    width_px: int  # of the upload, upright
    height_px: int
    media_type: str  # of the upload, by its bytes
    # The values shown as black and as white, where the format alone does not say them.
    value_range: tuple[float, float] | None = None
    # Date, camera and place; and what of the upload could not be read.
    exif: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


# Called with the number of pixels that are about to be decoded; returns once that may be done.
Admit = Callable[[int], None]


class Decode(Protocol):
    """Decodes an upload: `decode`, here or in another process."""

    def __call__(self, data: bytes, *, max_pixels: int, max_side_px: int) -> Decoded:
        """The first frame upright, on white where transparent, reduced to `max_side_px`.

        Raises PictureError.
        """
        ...


def decode(
    data: bytes,
    *,
    max_pixels: int,
    max_side_px: int,
    admit: Admit = lambda _: None,
) -> Decoded:
    """Decodes the first frame upright, on white where transparent, reduced to `max_side_px`.

    A file that has to be repaired is admitted a second time.

    Raises EmptyFile, NotAnImage, TooManyPixels (by the header, before decoding) or ImageDamaged.
    """
    if not data:
        raise EmptyFile("The file has no bytes.")
    try:
        return _decode(data, max_pixels, max_side_px, admit)
    except (ImageDamaged, NotAnImage) as error:
        # Trouble beside the pixels must not cost the picture; what follows is slower.
        repaired = without_trouble_beside_pixels(data)
        if repaired is None:
            raise
        try:
            decoded = _decode(repaired, max_pixels, max_side_px, admit)
        except (ImageDamaged, NotAnImage):
            # What is wrong is told of the file as it was sent.
            raise error from None
    return replace(decoded, notes=[*decoded.notes, _REPAIRED])


def formats() -> tuple[str, ...]:
    """The formats that are read, as Pillow calls them."""
    return (*FORMATS, HEIF) if can_read_heic() else FORMATS


def _decode(data: bytes, max_pixels: int, max_side_px: int, admit: Admit) -> Decoded:
    value_range = None
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as upload:
            pixels = upload.width * upload.height
            if pixels > max_pixels:
                message = f"The image has {pixels} pixels, the limit is {max_pixels}."
                raise TooManyPixels(message)  # noqa: TRY301
            width_px, height_px = upload.size
            media_type = Image.MIME[upload.format or ""]
            # A JPEG can be decoded at a half, a quarter or an eighth of its size, which is much
            # faster.
            upload.draft(None, (max_side_px, max_side_px))
            rawmode = deep_rawmode(upload)
            # A progressive JPEG takes memory for its full size all the same.
            admit(
                pixels if "progressive" in upload.info else upload.width * upload.height
            )
            upload.load()
            orientation = _orientation(upload)
            exif = read_exif(upload)
            profile = upload.info.get("icc_profile")
            image: Image.Image = upload
            if upload.mode.startswith(("I", "F")):
                image, value_range = eight_bit_grey(upload)
                # A profile is of the values before they were scaled.
                profile = None
            elif rawmode is not None:
                image, value_range = eight_bit_colour(upload, rawmode, data)
                profile = profile if value_range is None else None
            # Reduced before all else: each further step would cost the memory of the whole.
            image = _reduced(image, max_side_px)
            image, note = to_srgb(image, profile)
            image = to_rgb(_turned(image, orientation))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(
            f"The image has too many pixels, the limit is {max_pixels}."
        ) from error
    except UnidentifiedImageError as error:
        if is_heic(data) and not can_read_heic():
            raise NotAnImage(_NEEDS_EXTRA) from error
        if _begins_like_an_image(data):
            raise ImageDamaged(_UNREADABLE) from error
        known = ", ".join(formats())
        raise NotAnImage(
            f"The file is not an image in a known format ({known})."
        ) from error
    except (PictureError, MemoryError):
        raise
    except Exception as error:
        # Pillow's decoders raise almost any exception on broken bytes.
        raise ImageDamaged(_UNREADABLE) from error
    if orientation in (5, 6, 7, 8):
        width_px, height_px = height_px, width_px
    return Decoded(
        image,
        width_px,
        height_px,
        media_type,
        value_range,
        exif.metadata,
        [*exif.notes, *filter(None, [note])],
    )


def _begins_like_an_image(data: bytes) -> bool:
    """Whether the first bytes are those of a known format."""
    accepts = [accept for _, accept in map(Image.OPEN.__getitem__, formats())]
    return any(accept is not None and accept(data[:16]) for accept in accepts)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where there is none.

    A broken EXIF block counts as none, since the pixels may still be good.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Pillow's parser raises almost any exception on broken bytes.
        return 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _reduced(image: Image.Image, max_side_px: int) -> Image.Image:
    """A copy with no side longer than `max_side_px`, in a mode that can be averaged."""
    if image.mode in ("P", "PA", "1"):
        # Pillow would take the nearest index of a palette, and loses thin lines.
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    small = image.copy() if max(image.size) <= max_side_px else image
    small.thumbnail((max_side_px, max_side_px))
    return small


def to_rgb(image: Image.Image) -> Image.Image:
    """An RGB copy, transparency on white."""
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def thumbnail(image: Image.Image) -> Picture:
    """A WebP of the image, no side longer than 256 px."""
    return smaller(image, THUMBNAIL_SIDE_PX)


def smaller(image: Image.Image, max_side_px: int) -> Picture:
    """A WebP of the image, no side longer than `max_side_px`."""
    small = image.copy()
    small.thumbnail((max_side_px, max_side_px))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=4)
    return Picture("image/webp", buffer.getvalue())
