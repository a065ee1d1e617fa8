"""Readers of the three collections of cut-out pictures: each yields a title and a picture with transparency.

Knows nothing of vocabularies or scenes. SVG files are drawn by resvg, a tool of training time only (extra `train`).
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from compressor.errors import DataInvalid, ToolMissing

DRAWN_PX = 320  # width an SVG is drawn at, before cropping; the height follows


@dataclass(frozen=True)
class Picture:
    """A picture of a collection that has not been opened yet."""

    source: str
    path: Path
    titles: tuple[str, ...]  # the likeliest first

    def open(self) -> Image.Image:
        """The picture as RGBA. Raises DataInvalid for a file that cannot be read, ToolMissing where SVG cannot."""
        try:
            if self.path.suffix == ".svg":
                return _draw(self.path)
            with Image.open(self.path) as image:
                return image.convert("RGBA")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DataInvalid(f"{self.path}: {error}") from error


def tuxpaint(folder: Path) -> Iterator[Picture]:
    """Stamps of tuxpaint-stamps-default: each picture has a text file whose first line is in English."""
    for text in sorted(folder.rglob("*.txt")):
        if text.stem.endswith("_desc"):
            continue
        first = text.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        title = re.split(r"[.!?—]|, ", first.strip().replace("’", "'"))[0]
        title = re.sub(r"[“\"'][A-Z][^”\"']*[”\"']", " ", title)  # the “Fuji” of an apple
        for suffix in (".svg", ".png"):
            if text.with_suffix(suffix).exists():
                yield Picture("tuxpaint", text.with_suffix(suffix), (title, _plain(text.stem)))
                break


def openclipart(folder: Path) -> Iterator[Picture]:
    """Drawings of openclipart-svg: the title stands in the metadata, or else only in the file's name."""
    skipped = re.compile(
        r"/(roadsigns|aiga-symbols|flags|logos|icons|unsorted|special|shapes|signs_and_symbols|geography|diagrams|"
        r"buttons|connectors|decorations|religion|folders|smilies|stickmen|bodypart|network)/|_bw|contour|cards"
    )
    for path in sorted(folder.rglob("*.svg")):
        if skipped.search(path.as_posix()):
            continue
        head = path.read_text(encoding="utf-8", errors="replace")[:6000]
        found = re.search(r"<dc:title>([^<]*)</dc:title>", head)
        title = html.unescape(found.group(1)) if found else ""
        # Some titles name the maker or the set; a file's name starts with the thing and ends with the maker.
        words = _plain(path.stem).split()
        yield Picture("openclipart", path, (title, *(" ".join(words[:n]) for n in range(len(words), 0, -1))))


def openmoji(folder: Path) -> Iterator[Picture]:
    """Emoji of the npm package openmoji, without people's skin tones, flags, signs and brands."""
    wanted = {
        "animals-nature",
        "food-drink",
        "travel-places",
        "activities",
        "objects",
        "people-body",
        "extras-openmoji",
    }
    table = folder / "data" / "openmoji.csv"
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    except OSError as error:
        raise DataInvalid(f"{table}: {error}") from error
    for row in rows:
        path = folder / "color" / "svg" / f"{row['hexcode']}.svg"
        if row["group"] in wanted and row["subgroups"] != "brand" and not row["skintone"] and path.exists():
            yield Picture("openmoji", path, (row["annotation"],))


SOURCES: dict[str, Callable[[Path], Iterator[Picture]]] = {
    "tuxpaint": tuxpaint,
    "openclipart": openclipart,
    "openmoji": openmoji,
}


def _plain(stem: str) -> str:
    return re.sub(r"[^A-Za-z]+", " ", stem).strip()


def _draw(path: Path) -> Image.Image:
    try:
        import resvg_py  # needed by no one who only runs the service
    except ImportError as error:
        raise ToolMissing("resvg_py is missing: install the extra `train`") from error
    png = bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=DRAWN_PX))
    with Image.open(io.BytesIO(png)) as image:
        return image.convert("RGBA")
