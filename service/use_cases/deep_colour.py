"""Colours of 16 bits a channel, as 8 bits.

As with greys (see deep_grey.py) a file does not say which value means white: 12-bit cameras write
0 to 4095 into 16 bits. Pillow keeps the upper byte of each value, in which such a picture is black.
"""

from __future__ import annotations

import io
import sys
from itertools import chain

from PIL import Image, ImageChops, ImageFile

from service.use_cases.deep_grey import WHITES, Range

FORMATS = ("PNG", "TIFF")  # that have such values, and leave them to Pillow
_MODES = ("RGB", "RGBA", "RGBX", "CMYK")
_EXTREMES = 0.001  # share of the values that may be brighter than white
_ALPHA = "A"


def _swapped() -> dict[str, str]:
    """The raw mode, as Pillow calls it, that takes the other byte of each value."""
    native, other = ("L", "B") if sys.byteorder == "little" else ("B", "L")
    pairs = {"L": "B", "B": "L", "N": other, native: other}
    return {
        f"{mode};16{order}": f"{mode};16{swapped}"
        for mode in _MODES
        for order, swapped in pairs.items()
    }


_OTHER_BYTE = _swapped()


def deep_rawmode(image: Image.Image) -> str | None:
    """How the file of an image that is not loaded yet spells its values, if they have 16 bits."""
    for tile in getattr(image, "tile", ()):
        args = tile.args
        rawmode = args[0] if isinstance(args, tuple) and args else args
        if isinstance(rawmode, str) and ";16" in rawmode:
            return rawmode
    return None


def eight_bit_colour(
    upper: Image.Image, rawmode: str, data: bytes
) -> tuple[Image.Image, Range | None]:
    """The loaded image in 8 bits; and its range, unless that is all of 16 bits.

    `upper` has the upper bytes of the values, and `data` is its file.
    """
    white = _white(upper)
    if white == WHITES[-1]:
        return upper, None
    # In C, by tables: NumPy would need the whole image several times.
    tables = [_scale(256 * 255 / white)] * len(upper.getbands())
    lower_tables = [_scale(255 / white)] * len(tables)
    if (
        upper.getbands()[-1] == _ALPHA
        and _brightest(upper.getchannel(_ALPHA)) > white / 256
    ):
        tables[-1], lower_tables[-1] = _scale(1), _scale(0)
    scaled = upper.point(list(chain(*tables)))
    lower = _lower(data, rawmode)
    if lower is not None:
        scaled = ImageChops.add(scaled, lower.point(list(chain(*lower_tables))))
    return scaled, (0.0, white)


def _white(upper: Image.Image) -> float:
    """The value that means white, by the brightest colours."""
    colours = [band for band in upper.getbands() if band != _ALPHA]
    brightest = max(_brightest(upper.getchannel(band)) for band in colours)
    if brightest == 0:
        # As good as black.
        return WHITES[-1]
    return next(white for white in WHITES if 256 * brightest <= white)


def _brightest(band: Image.Image) -> int:
    """The upper byte that hardly any value of a band exceeds."""
    histogram = band.histogram()
    room = sum(histogram) * _EXTREMES
    for value in range(len(histogram) - 1, 0, -1):
        room -= histogram[value]
        if room < 0:
            return value
    return 0


def _scale(factor: float) -> list[int]:
    return [min(255, round(value * factor)) for value in range(256)]


def _lower(data: bytes, rawmode: str) -> Image.Image | None:
    """The lower bytes of the values, where Pillow can be made to take them for the upper ones."""
    other = _OTHER_BYTE.get(rawmode)
    if other is None:
        return None
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        assert isinstance(image, ImageFile.ImageFile)
        image.tile = [_with_rawmode(tile, other) for tile in image.tile]
        image.load()
        return image.copy()


def _with_rawmode(tile: ImageFile._Tile, rawmode: str) -> ImageFile._Tile:
    args = tile.args
    return tile._replace(
        args=(rawmode, *args[1:]) if isinstance(args, tuple) else rawmode
    )
