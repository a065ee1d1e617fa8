"""Bytes an image takes on disk, by part, for each token codec and for each way to keep the picture.

Fills a library for each with photographs' records, closes it, and divides what lies in the folder
by the images. How many bytes a codec writes depends on the shape of the tokens alone, so noise of
the default model's shape stands for tokens; of noise the default model's codec writes the most it
ever does, of photographs about a tenth less. Physical limit: tokens, embedding and picture are as
large as their settings say, at a price in quality; what is lost is the rest of what lies on the
disk, and that should be small beside them.
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

from bench.default_model import EMBEDDING_SIZE, TOKENS_SHAPE
from bench.measure import Figure, report
from bench.photographs import jpegs
from compressor.default_model.build import WEIGHTS
from index.codecs.registry import state_files
from index.library import Library, open_library
from index.ports import NewImage, Picture
from index.vectors.arithmetic import unit
from index.vectors.auto_index import AutoIndex
from service.settings import Settings
from service.use_cases.images import decode, thumbnail

FINGERPRINT = hashlib.sha256(b"benchmark").hexdigest()
RECORDS_A_BATCH = 16
MORE_WITHOUT_PICTURES = (
    10  # times the images, so that the empty library's own pages do not count
)
STATE = next(iter(state_files(WEIGHTS)), None)
DEFAULT = "sq8" if STATE is None else STATE.stem  # of the default model
MOST_BYTES = 1536.0
CODECS = tuple(dict.fromkeys(("fp16", "sq8", "sq4", DEFAULT)))


@dataclass(frozen=True)
class Parts:
    """Bytes an image."""

    tokens: float
    embedding: float
    record: float  # header, names, metadata, checksum
    picture: float
    index: float  # the vector index's snapshot
    # pages of the store: keys, free space; the codec's state, once a library, is told apart
    rest: float

    @property
    def all(self) -> float:
        """Everything in the folder but the codec's state."""
        return (
            self.tokens
            + self.embedding
            + self.record
            + self.picture
            + self.index
            + self.rest
        )


def run(*, images: int = 300, indexed: int = 40_000) -> None:
    """Fills the libraries, and reports."""
    contents = list(jpegs(images))
    many = contents * MORE_WITHOUT_PICTURES
    thumbnails = [as_thumbnail(content) for content in contents]
    originals = [Picture("image/jpeg", content) for content in contents]
    parts = {
        f"{codec}, thumbnail": measured(codec, contents, thumbnails) for codec in CODECS
    }
    parts[f"{DEFAULT}, none"] = measured(DEFAULT, many, [None] * len(many))
    parts[f"{DEFAULT}, original"] = measured(DEFAULT, contents, originals)
    print_parts(parts)
    default = parts[f"{DEFAULT}, thumbnail"]
    bars = {f"{DEFAULT}, none": MOST_BYTES}
    figures = [
        Figure(f"{name.replace(', ', '_')}_bytes", part.all, at_most=bars.get(name))
        for name, part in parts.items()
    ]
    figures += [
        Figure(f"default_{name}_bytes", value) for name, value in vars(default).items()
    ]
    divided = index_bytes(indexed)  # smaller libraries keep none
    figures += [
        Figure("index_bytes_of_a_large_library", divided),
        Figure(
            "all_in_a_large_library",
            parts[f"{DEFAULT}, none"].all + divided,
            at_most=MOST_BYTES,
        ),
    ]
    state_bytes = 0 if STATE is None else STATE.stat().st_size
    figures += [Figure("default_codec_state_bytes_once_a_library", state_bytes)]
    figures += [Figure("uploaded_jpeg_bytes", sum(map(len, contents)) / images)]
    report("bytes", figures)


def measured(
    codec: str, contents: Sequence[bytes], pictures: Sequence[Picture | None]
) -> Parts:
    """The parts of a library with these images, as it lies on the disk once it is closed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = open_here(folder, codec)
        for start in range(0, len(contents), RECORDS_A_BATCH):
            numbers = range(start, min(start + RECORDS_A_BATCH, len(contents)))
            library.put([new_image(contents[n], pictures[n], n) for n in numbers])
        stats = library.stats()
        library.close()
        index = sum(path.stat().st_size for path in folder.glob("vectors-*"))
        folder_bytes = sum(
            path.stat().st_size for path in folder.iterdir() if path.is_file()
        )
    told = [
        stats.token_bytes,
        stats.embedding_bytes,
        stats.record_bytes,
        stats.picture_bytes,
        index,
    ]
    return Parts(*(size / stats.images for size in (*told, folder_bytes - sum(told))))


def index_bytes(vectors: int) -> float:
    """Bytes a vector in the index's snapshot, for enough vectors to be divided into lists."""
    index = AutoIndex(EMBEDDING_SIZE)
    index.add(
        np.arange(vectors),
        unit(
            np.random.default_rng(0).standard_normal(
                (vectors, EMBEDDING_SIZE), np.float32
            )
        ),
    )
    index.wait()
    with tempfile.TemporaryDirectory() as name:
        index.save(Path(name) / "vectors")
        return (Path(name) / "vectors").stat().st_size / vectors


def open_here(folder: Path, codec: str = DEFAULT) -> Library:
    """A library of the default model's shapes."""
    return open_library(
        folder,
        fingerprint=FINGERPRINT,
        token_shape=TOKENS_SHAPE,
        embedding_size=EMBEDDING_SIZE,
        codec=codec,
        codec_state=STATE if codec == DEFAULT else None,
    )


def new_image(content: bytes, picture: Picture | None, number: int) -> NewImage:
    """A record as ingest would make it."""
    random = np.random.default_rng(number)
    return NewImage(
        sha256=hashlib.sha256(b"%d" % number + content).hexdigest(),
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
    return thumbnail(
        decode(
            content,
            max_pixels=settings.max_image_pixels,
            max_side_px=settings.image_side_px,
        ).image
    )


def print_parts(parts: dict[str, Parts]) -> None:
    """One line a library."""
    table = Table(
        "codec, picture", *Parts.__annotations__, "all", title="bytes an image"
    )
    for name, part in parts.items():
        table.add_row(
            name, *(f"{value:.0f}" for value in (*vars(part).values(), part.all))
        )
    Console().print(table)


if __name__ == "__main__":
    run()
