"""Decoding of uploads: the pictures that people have, and the ways a file can be wrong."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.errors import (
    EmptyFile,
    ImageDamaged,
    NotAnImage,
    PictureError,
    TooManyPixels,
)
from service.use_cases.images import THUMBNAIL_SIDE_PX, Decoded, decode, thumbnail
from tests.service.conftest import flat

Colour = tuple[int, ...]
GOLDEN = Path(__file__).parents[2] / "golden"

RED = (255, 0, 0)
GREEN = (0, 255, 0)
BLUE = (0, 0, 255)
GREY = (128, 128, 128)
WHITE = (255, 255, 255)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
MAX_PIXELS = 4_000_000
MAX_SIDE_PX = 768


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data: bytes, max_side_px: int = MAX_SIDE_PX) -> Decoded:
    return decode(data, max_pixels=MAX_PIXELS, max_side_px=max_side_px)


def centre(data: bytes) -> Colour:
    """The colour in the middle of the decoded picture."""
    image = decoded(data).image
    middle = (image.width // 2, image.height // 2)
    return image.getpixel(middle)


def near(colour: Colour, expected: Colour, tolerance: int = 6) -> bool:
    differences = np.subtract(colour, expected)
    return bool(np.abs(differences).max() <= tolerance)


@pytest.mark.parametrize("format", [*FORMATS, "AVIF"])
def test_reads_every_format_it_names(format: str) -> None:
    data = encoded(flat(RED, (40, 20)), format)
    result = decoded(data)
    assert result.width_px == 40
    assert result.height_px == 20
    assert result.image.mode == "RGB"
    assert near(centre(data), RED)
    assert result.media_type == Image.MIME[format]


def test_exif_rotation_is_applied_to_pixels_and_to_the_reported_size() -> None:
    image = flat(BLUE, (60, 30))
    image.paste(RED, (0, 0, 30, 30))  # left half red
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise: left becomes top
    data = encoded(image, "JPEG", exif=exif, quality=95)
    result = decoded(data)
    assert result.width_px == 30
    assert result.height_px == 60
    assert result.image.size == (30, 60)
    assert near(result.image.getpixel((15, 10)), RED)
    assert near(result.image.getpixel((15, 50)), BLUE)


def test_a_broken_exif_block_does_not_cost_the_picture() -> None:
    broken = b"Exif\x00\x00XX\xff\xff\x00\x00\x00\x01"
    data = encoded(flat(GREEN), "JPEG", exif=broken)
    assert near(centre(data), GREEN)


def test_an_animation_gives_its_first_frame() -> None:
    first, *others = [flat(colour) for colour in (RED, GREEN, BLUE)]
    for format in ("GIF", "WEBP", "PNG"):
        data = encoded(first, format, save_all=True, append_images=others)
        assert near(centre(data), RED), format


def test_sixteen_bit_grey_keeps_its_middle() -> None:
    middle = np.full((10, 10), 32768, dtype=np.uint16)
    grey = Image.fromarray(middle)
    for format in ("PNG", "TIFF"):
        data = encoded(grey, format)
        assert near(centre(data), GREY, 1)


def test_float_grey_is_scaled() -> None:
    for scale in (1.0, 255.0):
        values = np.linspace(0, scale, 121, dtype=np.float32)
        grey = Image.fromarray(values.reshape(11, 11))
        data = encoded(grey, "TIFF")
        assert near(centre(data), GREY, 1)


def grey_of(values: np.ndarray) -> tuple[Decoded, np.ndarray]:
    """A decoded TIFF of these values, and its levels of grey."""
    result = decoded(encoded(Image.fromarray(values), "TIFF"))
    return result, np.asarray(result.image)[..., 0]


@pytest.mark.parametrize(
    ("largest", "dtype", "value_range"),
    [
        (4095, np.uint16, (0, 4095)),  # a 12-bit camera
        (1000, np.uint16, (0, 1023)),
        (65_535, np.uint16, None),
        (1.0, np.float32, None),
        (255.0, np.float32, None),
        (4.0, np.float32, (0, 4)),
        (3000.0, np.float32, (0, 3000)),
        (0.002, np.float32, (0, 0.002)),
    ],
)
def test_a_deep_grey_is_neither_black_nor_white(
    largest: float, dtype: type, value_range: tuple[float, float] | None
) -> None:
    values = np.linspace(0, largest, 100 * 100).reshape(100, 100).astype(dtype)
    result, grey = grey_of(values)
    assert grey[0, 0] <= 1
    assert grey[-1, -1] >= 249
    assert abs(int(grey[50, 50]) - 128) <= 4
    if value_range is None:
        assert result.value_range is None
    else:
        assert result.value_range == pytest.approx(value_range, rel=0.01)


@pytest.mark.parametrize("extreme", [1.01, 1e30, np.inf, np.nan])
def test_one_extreme_value_does_not_decide(extreme: float) -> None:
    for side in (10, 200):
        values = np.full((side, side), 0.5, np.float32)
        values[1, 1] = extreme
        _, grey = grey_of(values)
        assert abs(int(grey[side // 2, side // 2]) - 128) <= 1


def test_values_below_zero_and_far_from_it_are_shown() -> None:
    for low, high in ((-1.0, 1.0), (280.0, 310.0)):
        values = np.linspace(low, high, 10_000, dtype=np.float32).reshape(100, 100)
        result, grey = grey_of(values)
        assert grey[0, 0] == 0
        assert grey[-1, -1] == 255
        assert result.value_range == pytest.approx((low, high), abs=0.1)


def test_a_deep_grey_costs_little_more_than_its_values() -> None:
    values = Image.fromarray(np.zeros((2000, 2000), np.uint16))
    data = encoded(values)
    tracemalloc.start()
    try:
        decoded(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # NumPy's own: the values, their 8 bits, a sample and a band.
    assert peak_bytes < 12 * 2000 * 2000


Deep = Callable[[np.ndarray], bytes]


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16-bit values (height, width, channels)."""
    height, width, channels = values.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = [b"\0" + row.astype(">u2").tobytes() for row in values]
    parts = [
        b"\x89PNG\r\n\x1a\n",
        png_chunk(b"IHDR", header),
        png_chunk(b"IDAT", zlib.compress(b"".join(rows))),
        png_chunk(b"IEND", b""),
    ]
    return b"".join(parts)


def deep_tiff(values: np.ndarray, order: str) -> bytes:
    """A TIFF of 16-bit RGB values (height, width, 3), little-endian "<" or big-endian ">"."""
    height, width, _ = values.shape
    data = values.astype(f"{order}u2").tobytes()
    bits_at = 8 + 2 + 9 * 12 + 4
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits_at), (259, 4, 1, 1),
        (262, 4, 1, 2), (273, 4, 1, bits_at + 6), (277, 4, 1, 3), (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]  # fmt: skip
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    parts = [head, struct.pack(f"{order}IH", 8, len(tags))]
    parts += [struct.pack(f"{order}HHII", *tag) for tag in tags]
    parts += [struct.pack(f"{order}I3H", 0, 16, 16, 16), data]
    return b"".join(parts)


DEEP_FILES = {
    "PNG": deep_png,
    "TIFF, little-endian": partial(deep_tiff, order="<"),
    "TIFF, big-endian": partial(deep_tiff, order=">"),
}


@pytest.mark.parametrize("deep", DEEP_FILES.values(), ids=DEEP_FILES)
@pytest.mark.parametrize("white", [1023, 4095, 16383, 65535])
def test_deep_colours_are_not_black(deep: Deep, white: int) -> None:
    ramp = np.linspace(0, white, 100 * 100).reshape(100, 100, 1)
    values = np.concatenate([ramp, ramp[::-1], ramp], axis=2)
    values[2, 2] = 65535  # one hot pixel
    result = decoded(deep(values))
    difference = np.asarray(result.image) - values * 255 / white
    assert np.abs(difference[3:]).max() <= 2
    assert result.value_range == (None if white == 65535 else (0, white))


@pytest.mark.parametrize("alpha", [4095, 65535])
def test_deep_colours_with_transparency(alpha: int) -> None:
    colour = [4095, 0, 0, alpha]
    assert centre(deep_png(np.full((9, 9, 4), colour))) == RED
    grey = [2000, alpha]
    assert near(centre(deep_png(np.full((9, 9, 2), grey))), GREY, 16)


def test_deep_colours_as_good_as_black_stay_black() -> None:
    values = np.full((50, 50, 3), 200)
    values[2, 2] = 65535
    result = decoded(deep_png(values))
    assert result.value_range is None
    assert result.image.getpixel((20, 20)) == (0, 0, 0)


def png_chunk(name: bytes, body: bytes) -> bytes:
    length = struct.pack(">I", len(body))
    checksum = struct.pack(">I", zlib.crc32(name + body))
    return b"".join([length, name, body, checksum])


PNG_START = 8 + 25  # signature and header
LONG = zlib.compress(bytes(2 << 20))


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"zTXt", b"Comment\0\0" + LONG),
        png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + LONG),
        png_chunk(b"iCCP", b"profile\0\0" + LONG),
        png_chunk(b"tEXt", b"Comment\0a comment")[:-1] + b"?",
        png_chunk(b"eXIf", b"II*\0\x08\0\0\0")[:-1] + b"?",
    ],
    ids=["long text", "long iTXt", "long profile", "checksum", "checksum of EXIF"],
)
def test_trouble_beside_the_pixels_of_a_png_costs_nothing(chunk: bytes) -> None:
    whole = encoded(flat(RED))
    data = whole[:PNG_START] + chunk + whole[PNG_START:]
    assert centre(data) == RED
    assert "Damaged or oversized parts" in decoded(data).notes[0]


def test_a_wrong_checksum_of_pixels_is_damage() -> None:
    data = bytearray(encoded(flat(RED)))
    data[data.index(b"IDAT") + 10] ^= 1
    with pytest.raises(ImageDamaged):
        decoded(bytes(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_may_lack_its_end_and_no_more(progressive: bool) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG", progressive=progressive)
    whole = np.asarray(decoded(data).image)
    for missing in (1, 2):
        cut = decoded(data[:-missing])
        np.testing.assert_array_equal(np.asarray(cut.image), whole)
    for missing in (5, 50, len(data) // 2):
        with pytest.raises(ImageDamaged):
            decoded(data[:-missing])


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_may_lack_what_follows_its_pixels(lossless: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image = flat(RED, (30, 20))
    data = encoded(image, "WEBP", lossless=lossless, exif=exif, xmp=b"x" * 500)
    for missing in (1, 490):
        cut = decoded(data[:-missing])
        assert near(cut.image.getpixel((3, 3)), RED)
        assert cut.image.size == (20, 30)
        assert "Damaged or oversized parts" in cut.notes[0]
    with pytest.raises(ImageDamaged):
        decoded(data[: data.index(b"VP8", 16) + 12])


def test_an_animation_may_lack_its_later_frames() -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    others = [Image.fromarray(noise), flat(BLUE, (64, 64))]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(flat(RED, (64, 64)), format, save_all=True, append_images=others)
        assert near(centre(data[:-200]), RED), format


def test_cmyk_becomes_rgb() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encoded(red, "JPEG")
    assert near(centre(data), RED, 12)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    data = encoded(Image.new(mode, (8, 8), 0))
    assert centre(data) == WHITE


def test_a_palette_with_transparency_is_laid_on_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 10, 10])
    transparent = encoded(image, "PNG", transparency=1)
    opaque = encoded(image, "PNG")
    assert centre(transparent) == WHITE
    assert centre(opaque) == (10, 10, 10)


def test_one_bit_pictures_are_read() -> None:
    data = encoded(Image.new("1", (8, 8), 1))
    assert centre(data) == WHITE


def test_large_pictures_are_reduced_and_keep_their_reported_size() -> None:
    data = encoded(flat(RED, (2000, 1000)), "JPEG")
    result = decoded(data, max_side_px=100)
    assert result.image.size == (100, 50)
    assert result.width_px == 2000
    assert result.height_px == 1000


def test_a_thin_line_survives_reduction() -> None:
    data = encoded(flat(RED, (1, 3000)))
    assert decoded(data).image.size == (1, MAX_SIDE_PX)


def test_no_bytes_is_an_empty_file() -> None:
    with pytest.raises(EmptyFile):
        decoded(b"")


@pytest.mark.parametrize(
    "data",
    [
        b"hello, this is text",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"<svg/>",
        b"\x00" * 100,
    ],
    ids=["text", "eps", "svg", "zeros"],
)
def test_other_files_are_not_images(data: bytes) -> None:
    with pytest.raises(NotAnImage):
        decoded(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_truncated_file_is_damaged(format: str) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format)
    with pytest.raises((ImageDamaged, NotAnImage)):
        decoded(data[: len(data) // 2])


@pytest.mark.parametrize("format", ["AVIF", "JPEG", "PNG", "WEBP"])
def test_a_file_cut_short_is_not_called_unknown(format: str) -> None:
    data = encoded(flat(RED, (300, 200)), format)
    with pytest.raises(ImageDamaged):
        decoded(data[: len(data) // 2])


def test_a_heic_cut_short_is_not_called_unknown() -> None:
    data = (GOLDEN / "red-blue.heic").read_bytes()
    with pytest.raises(ImageDamaged):
        decoded(data[:-1])


def png_with_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [
        b"\x89PNG\r\n\x1a\n",
        png_chunk(b"IHDR", header),
        png_chunk(b"IDAT", zlib.compress(b"")),
        png_chunk(b"IEND", b""),
    ]
    return b"".join(parts)


@pytest.mark.parametrize("side", [2001, 12_000, 60_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(TooManyPixels):
        decoded(png_with_header(side, side))


@given(st.data())
def test_broken_bytes_only_ever_raise_picture_errors(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(FORMATS))
    gradient = Image.linear_gradient("L").resize((24, 24))
    content = bytearray(encoded(gradient.convert("RGB"), format))
    positions = st.integers(0, len(content) - 1)
    for position in data.draw(st.lists(positions, max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(content)))
    with contextlib.suppress(PictureError):
        result = decoded(bytes(content[:length]))
        assert result.image.mode == "RGB"


def test_a_thumbnail_is_a_small_webp() -> None:
    picture = thumbnail(flat(RED, (1000, 500)))
    assert picture.media_type == "image/webp"
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.format == "WEBP"
        assert image.size == (THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX // 2)


@pytest.mark.parametrize(
    ("format", "options", "pixels"),
    [
        ("JPEG", {}, 250 * 250),
        ("JPEG", {"progressive": True}, 2000 * 2000),
        ("WEBP", {"lossless": True}, 2000 * 2000),
        ("PNG", {}, 2000 * 2000),
    ],
)
def test_it_says_how_many_pixels_it_is_about_to_decode(
    format: str, options: dict[str, bool], pixels: int
) -> None:
    data = encoded(flat(RED, (2000, 2000)), format, **options)
    admitted: list[int] = []
    decode(data, max_pixels=MAX_PIXELS, max_side_px=200, admit=admitted.append)
    assert admitted == [pixels]
    with pytest.raises(TooManyPixels):
        decode(data, max_pixels=1000, max_side_px=200, admit=admitted.append)
    assert admitted == [pixels]


def test_a_variant_that_is_not_read_is_not_simply_called_damaged() -> None:
    # A whole TIFF of one pixel, a float of 64 bits: what Pillow does not know.
    entries = [
        (256, 4, 1),
        (257, 4, 1),
        (258, 3, 64),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 122),
        (277, 3, 1),
        (279, 4, 8),
        (339, 3, 3),
    ]
    tags = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries
    )
    directory = struct.pack("<H", len(entries)) + tags + bytes(4)
    data = b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<d", 0.5)
    assert data.index(struct.pack("<d", 0.5)) == 122
    with pytest.raises(ImageDamaged, match="variant"):
        decoded(data)
