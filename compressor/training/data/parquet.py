"""Image–caption samples in Parquet shards, as the Hugging Face hub and img2dataset write them.

Knows nothing of training. Captions are read at once, the pictures of a row group when one of them is asked for.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from compressor.errors import DataInvalid
from compressor.training.data.entry import Entry

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp")  # bytes, or a struct with `bytes`
CAPTION_COLUMNS = ("caption", "captions", "text", "txt")  # a text, or a list of texts


def entries(path: Path, skipped: Counter[str]) -> Iterator[Entry]:
    """The samples of a shard; what cannot be used is counted by reason. Raises DataInvalid."""
    file, read_errors = _opened(path)
    names = file.schema_arrow.names
    image, caption = (
        next((name for name in wanted if name in names), None) for wanted in (IMAGE_COLUMNS, CAPTION_COLUMNS)
    )
    if image is None or caption is None:
        raise DataInvalid(
            f"{path} has columns {', '.join(names)}: one of {', '.join(IMAGE_COLUMNS)} and one of "
            f"{', '.join(CAPTION_COLUMNS)} is needed"
        )
    try:
        for group in range(file.num_row_groups):
            for row, said in enumerate(file.read_row_group(group, columns=[caption])[caption].to_pylist()):
                texts = tuple(text.strip() for text in _texts(said) if text.strip())
                if texts:
                    yield Entry(partial(_picture, path, group, image, row), (), texts)
                else:
                    skipped["no text"] += 1
    except read_errors as error:
        raise DataInvalid(f"{path}: {error}") from error


def _opened(path: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    """The file, and what reading it may raise."""
    try:
        import pyarrow as pa  # needed by no one who has no such data
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataInvalid("pyarrow is missing: install the extra `train`") from error
    errors = (pa.ArrowException, OSError)
    try:
        return pq.ParquetFile(path), errors
    except errors as error:
        raise DataInvalid(f"{path} is no Parquet file: {error}") from error


def _texts(said: object) -> list[str]:
    return [text for text in (said if isinstance(said, list) else [said]) if isinstance(text, str)]


@lru_cache(maxsize=4)
def _pictures(path: Path, group: int, column: str) -> Callable[[int], Any]:
    """What stands in a column of a row group, by row."""
    file, read_errors = _opened(path)
    try:
        cells = file.read_row_group(group, columns=[column])[column]
    except read_errors as error:
        raise DataInvalid(f"{path}: {error}") from error
    return lambda row: cells[row].as_py()


def _picture(path: Path, group: int, column: str, row: int) -> Image.Image:
    found = _pictures(path, group, column)(row)
    data = found.get("bytes") if isinstance(found, dict) else found
    try:
        with Image.open(io.BytesIO(data)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, TypeError, Image.DecompressionBombError) as error:
        raise DataInvalid(f"{path}, row {row} of row group {group}: {error}") from error
