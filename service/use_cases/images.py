"""Decodes uploads into upright RGB images, and makes thumbnails. All functions are thread-safe."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from index.ports import Picture
from service.errors import (
    EmptyFile,
    ImageDamaged,
    NotAnImage,
    PictureError,
    TooManyPixels,
)

# Bitmap formats that Pillow itself decodes. Formats that start another program (EPS) or refer to
# other files are left out for security.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
THUMBNAIL_SIDE_PX = 256


@dataclass(frozen=True)
class Decoded:
    """A decoded upload."""

    image: Image.Image  # RGB, upright, no side longer than `max_side_px`
    width_px: int  # of the upload, upright
    height_px: int
    media_type: str  # of the upload, by its bytes


def decode(data: bytes, *, max_pixels: int, max_side_px: int) -> Decoded:
    """Decodes the first frame upright, on white where transparent, reduced to `max_side_px`.

    Raises EmptyFile, NotAnImage, TooManyPixels (by the header, before decoding) or ImageDamaged.
    """
    if not data:
        raise EmptyFile("The file has no bytes.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as upload:
            pixels = upload.width * upload.height
            if pixels > max_pixels:
                message = f"The image has {pixels} pixels, the limit is {max_pixels}."
                raise TooManyPixels(message)  # noqa: TRY301
            width_px, height_px = upload.size
            media_type = Image.MIME[upload.format or ""]
            # A JPEG can be decoded at a half, a quarter or an eighth of its size, which is much
            # faster.
            upload.draft(None, (max_side_px, max_side_px))
            upload.load()
            is_sideways = _orientation(upload) in (5, 6, 7, 8)
            image = to_rgb(_upright(upload))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(
            f"The image has too many pixels, the limit is {max_pixels}."
        ) from error
    except UnidentifiedImageError as error:
        formats = ", ".join(FORMATS)
        raise NotAnImage(
            f"The file is not an image in a known format ({formats})."
        ) from error
    except (PictureError, MemoryError):
        raise
    except Exception as error:
        # Pillow's decoders raise almost any exception on broken bytes.
        raise ImageDamaged("The image is truncated or damaged.") from error
    image.thumbnail((max_side_px, max_side_px))
    if is_sideways:
        width_px, height_px = height_px, width_px
    return Decoded(image, width_px, height_px, media_type)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where there is none.

    A broken EXIF block counts as none, since the pixels may still be good.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, TypeError, struct.error):
        return 1


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image


def to_rgb(image: Image.Image) -> Image.Image:
    """An RGB copy of the current frame, transparency on white, deep greys scaled to 8 bits."""
    if image.mode.startswith(("I", "F")):
        return _from_deep_grey(image)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """8-bit RGB from 16-bit, 32-bit and float grey.

    Integers span 0 to 65535; floats span 0 to 1 or, if any is larger, 0 to 255.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode.startswith("I"):
        values = values / 257.0  # 65535 = 255 * 257
    elif values.max(initial=0.0) <= 1.0:
        values = values * 255.0
    grey = np.rint(values.clip(0, 255)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def thumbnail(image: Image.Image) -> Picture:
    """A WebP of the image, no side longer than 256 px."""
    return _webp(image, THUMBNAIL_SIDE_PX)


def _webp(image: Image.Image, max_side_px: int) -> Picture:
    small = image.copy()
    small.thumbnail((max_side_px, max_side_px))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=4)
    return Picture("image/webp", buffer.getvalue())


def as_thumbnail(picture: Picture) -> Picture:
    """The kept picture itself if it is a thumbnail, otherwise a thumbnail of it."""
    with Image.open(io.BytesIO(picture.data), formats=FORMATS) as kept:
        if kept.format == "WEBP" and max(kept.size) <= THUMBNAIL_SIDE_PX:
            return picture
    return view(picture, THUMBNAIL_SIDE_PX)


def view(original: Picture, side_px: int) -> Picture:
    """A WebP of an original, no side longer than `side_px`."""
    with Image.open(io.BytesIO(original.data), formats=FORMATS) as kept:
        # The original passed the limit when it was uploaded, whatever the limit is now.
        max_pixels = kept.width * kept.height
    decoded = decode(original.data, max_pixels=max_pixels, max_side_px=2 * side_px)
    return _webp(decoded.image, side_px)
