"""Draws small collections and prepared folders for the tests of the training data."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from compressor.default_model.data import cutouts
from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.english import names

PAINT = {
    "red": (220, 20, 20),
    "blue": (30, 60, 220),
    "green": (30, 160, 50),
    "yellow": (245, 225, 40),
}


def stamp(
    path: Path,
    title: str,
    colour: str,
    shape: str = "ellipse",
) -> None:
    """A cut-out with a wide margin, and its text file, as in the collection tuxpaint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA", (160, 140), (0, 0, 0, 0))
    getattr(ImageDraw.Draw(image), shape)(
        (30, 25, 130, 105), fill=(*PAINT[colour], 255)
    )
    image.save(path.with_suffix(".png"))
    path.with_suffix(".txt").write_text(f"{title}\nde=Etwas\n", encoding="utf-8")


def prepared(folder: Path, count: int = 40) -> Objects:
    """A prepared folder with one object each of the first `count` names of the vocabulary."""
    for number, name in enumerate(sorted(names())[:count]):
        stamp(
            folder / "stamps" / f"object{number:03}",
            f"{name}.",
            list(PAINT)[number % 4],
        )
        # A different size for each, or equal pictures would be taken once only.
        with Image.open(folder / "stamps" / f"object{number:03}.png") as image:
            image.resize((160 + number, 140)).save(
                folder / "stamps" / f"object{number:03}.png"
            )
    for _ in cutouts.prepare(
        {"tuxpaint": folder / "stamps"}, folder / "prepared", rejected=()
    ):
        pass
    return cutouts.load(folder / "prepared")
