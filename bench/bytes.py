"""Bytes an image takes on disk, by part, for each token codec and for each way to keep the picture.

Fills a library for each with photographs' records, closes it, and divides what lies in the folder by the images. How
many bytes a codec writes depends on the shape of the tokens alone, so noise of the default model's shape stands for
tokens. Physical limit: tokens, embedding and picture are as large as their settings say, at a price in quality; what is
lost is the rest of what lies on the disk, and that should be small beside them.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.default_model import EMBEDDING_SIZE, TOKENS_SHAPE, VOCABULARY_SIZE
from bench.measure import Figure, report
from bench.photographs import jpegs
from index.library import NewImage, open_library
from index.ports import Picture
from service.pictures import decode, thumbnail
from service.settings import Settings

FINGERPRINT = hashlib.sha256(b"benchmark").hexdigest()
CODECS = ("fp16", "sq8", "sq4", "words8")
RECORDS_A_BATCH = 16


@dataclass(frozen=True)
class Parts:
    """Bytes an image."""

    tokens: float
    embedding: float
    record: float  # header, names, metadata, checksum
    picture: float
    index: float  # the vector index's snapshot
    rest: float  # pages of the store: keys, free space

    @property
    def all(self) -> float:
        """Everything in the folder."""
        return self.tokens + self.embedding + self.record + self.picture + self.index + self.rest


def run(*, images: int = 300, vocabulary_size: int = VOCABULARY_SIZE) -> None:
    """Fills the libraries, and reports."""
    contents = list(jpegs(images))
    none: list[Picture | None] = [None] * images
    thumbnails = [as_thumbnail(content) for content in contents]
    originals = [Picture("image/jpeg", content) for content in contents]
    random = np.random.default_rng(0)
    vocabulary = random.standard_normal((vocabulary_size, TOKENS_SHAPE[1]), dtype=np.float32)
    parts = {f"{codec}, thumbnail": measured(codec, contents, thumbnails, vocabulary) for codec in CODECS}
    parts["sq8, none"] = measured("sq8", contents, none, vocabulary)
    parts["sq8, original"] = measured("sq8", contents, originals, vocabulary)
    print_parts(parts)
    default = parts["sq8, thumbnail"]
    figures = [Figure(f"{name.replace(', ', '_')}_bytes", part.all) for name, part in parts.items()]
    figures += [Figure(f"default_{name}_bytes", value) for name, value in vars(default).items()]
    figures += [Figure("uploaded_jpeg_bytes", sum(map(len, contents)) / images)]
    report("bytes", figures)


def measured(
    codec: str, contents: Sequence[bytes], pictures: Sequence[Picture | None], vocabulary: np.ndarray
) -> Parts:
    """The parts of a library with these images, as it lies on the disk once it is closed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = open_library(
            folder,
            fingerprint=FINGERPRINT,
            token_shape=TOKENS_SHAPE,
            embedding_size=EMBEDDING_SIZE,
            codec=codec,
            vocabulary=vocabulary,
        )
        for start in range(0, len(contents), RECORDS_A_BATCH):
            numbers = range(start, min(start + RECORDS_A_BATCH, len(contents)))
            library.put([new_image(contents[n], pictures[n], n) for n in numbers])
        stats = library.stats()
        library.close()
        index = sum(path.stat().st_size for path in folder.glob("vectors-*"))
        folder_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    told = [stats.token_bytes, stats.embedding_bytes, stats.record_bytes, stats.picture_bytes, index]
    return Parts(*(size / stats.images for size in (*told, folder_bytes - sum(told))))


def new_image(content: bytes, picture: Picture | None, number: int) -> NewImage:
    """A record as ingest would make it."""
    random = np.random.default_rng(number)
    return NewImage(
        sha256=hashlib.sha256(content).hexdigest(),
        fingerprint=FINGERPRINT,
        tokens=random.standard_normal(TOKENS_SHAPE, dtype=np.float32),
        embedding=random.standard_normal(EMBEDDING_SIZE, dtype=np.float32),
        width_px=640,
        height_px=480,
        metadata={"filename": f"photograph-{number}.jpg"},
        picture=picture,
    )


def as_thumbnail(content: bytes) -> Picture:
    """What the service keeps by default."""
    settings = Settings()
    return thumbnail(decode(content, max_pixels=settings.max_image_pixels, max_side_px=settings.image_side_px).image)


def print_parts(parts: dict[str, Parts]) -> None:
    """One line a library."""
    table = Table("codec, picture", *Parts.__annotations__, "all", title="bytes an image")
    for name, part in parts.items():
        table.add_row(name, *(f"{value:.0f}" for value in (*vars(part).values(), part.all)))
    Console().print(table)


if __name__ == "__main__":
    run()
