"""A fake reader of text, and pictures with text that it and a real one read."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import ImageDraw, ImageFont
from PIL.Image import Image, new

_MARK = 251  # the red of the first pixel of a picture that holds its text


def spelled(lines: Sequence[str], colour: str = "white") -> Image:
    """A picture with these lines, in letters and, for the fake, as numbers in its first row."""
    image = new("RGB", (480, 320), colour)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=48)
    for number, line in enumerate(lines):
        draw.text((30, 40 + 80 * number), line, font=font, fill="black")
    hidden = "\n".join(lines).encode()
    pixels = np.asarray(image).copy()
    pixels[0, : len(hidden) + 2, 0] = [_MARK, len(hidden), *hidden]
    image.frombytes(pixels.tobytes())
    return image


def png(image: Image) -> bytes:
    """The bytes of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class FakeTextReader:
    """Reads what `spelled` hides in a picture."""

    def read(self, image: Image) -> list[str]:
        """See `TextReader`."""
        row = np.asarray(image)[0, :, 0].tolist()
        if len(row) < 2 or row[0] != _MARK:
            return []
        hidden = bytes(row[2 : 2 + row[1]]).decode()
        return [line for line in hidden.split("\n") if line.strip()]
