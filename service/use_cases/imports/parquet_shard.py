"""Pictures in a column of a Parquet file, as data sets on the Hugging Face hub have them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from compressor.training.datasets import IMAGE_COLUMNS
from service.errors import EmptyFile, ImportUnreadable
from service.use_cases.imports.content import (
    FILENAME,
    Content,
    ShardPicture,
    check_size,
)

_ROWS = 16  # read at a time


def count(file: BinaryIO) -> int:
    """How many rows there are. Raises ImportUnreadable, OSError."""
    rows: int = _opened(file).metadata.num_rows
    return rows


def pictures(file: BinaryIO, start: int, max_bytes: int) -> Iterator[ShardPicture]:
    """The pictures from a number on, each with the plain values beside it.

    Raises ImportUnreadable, OSError.
    """
    parquet = _opened(file)
    import pyarrow as pa  # there by now

    names = parquet.schema_arrow.names
    column = next(filter(names.__contains__, IMAGE_COLUMNS), None)
    if column is None:
        wanted = ", ".join(IMAGE_COLUMNS)
        raise ImportUnreadable(f"It has no column of pictures: one of {wanted}.")
    others = [
        field.name
        for field in parquet.schema_arrow
        if not (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))
    ]
    columns = list(dict.fromkeys([column, *others]))
    number = 0
    try:
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if number + rows <= start:
                number += rows
                continue
            for batch in parquet.iter_batches(
                _ROWS, [group], columns, use_threads=False
            ):
                for row in batch.to_pylist():
                    if number >= start:
                        read = partial(_of_row, row, column, max_bytes)
                        yield f"#{number}", read
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise ImportUnreadable("The Parquet file is damaged there.") from error


def _opened(file: BinaryIO) -> Any:
    """The opened file. Raises ImportUnreadable."""
    try:
        import pyarrow as pa  # only needed for such files
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportUnreadable(
            "Parquet is read with pyarrow, the extra `parquet`."
        ) from error
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise ImportUnreadable("The file is cut off or no Parquet file.") from error


def _of_row(row: dict[str, Any], column: str, max_bytes: int) -> Content:
    """A picture with the plain values beside it."""
    cell = row[column]
    metadata = {}
    if isinstance(cell, dict):
        path = cell.get("path")
        if isinstance(path, str) and path:
            metadata[FILENAME] = PurePosixPath(path).name
        cell = cell.get("bytes")
    if not isinstance(cell, bytes) or not cell:
        raise EmptyFile("The row has no picture.")
    check_size(len(cell), max_bytes)
    for name, value in row.items():
        if name != column and _is_plain(value):
            metadata[name] = value
    return Content(cell, metadata)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int)
