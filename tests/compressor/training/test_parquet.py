"""Samples from Parquet shards, good and bad; pyarrow writes them as the hub and img2dataset do."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from compressor.errors import DataInvalid
from compressor.training.datasets import read, read_parquet


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def shard(path: Path, columns: dict[str, object]) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def test_each_picture_has_its_own_captions_over_all_row_groups_and_shards(
    tmp_path: Path,
) -> None:
    numbers = range(8)
    structs = [{"bytes": picture(number), "path": None} for number in numbers]
    shard(
        tmp_path / "a.parquet",
        {"image": structs, "caption": [[f"number {n}", f"no. {n}"] for n in numbers]},
    )
    shard(
        tmp_path / "b.parquet",
        {
            "jpg": [picture(n + 100) for n in numbers],
            "text": [f"number {n}" for n in numbers],
        },
    )
    entries = read(tmp_path, tmp_path).entries
    assert len(entries) == len({entry.id for entry in entries}) == 16
    captions = {
        entry.open()[0].getpixel((0, 0))[0]: entry.captions for entry in entries
    }
    assert set(captions) == {*numbers, *(n + 100 for n in numbers)}
    for red, texts in captions.items():
        assert set(texts) <= {f"number {red % 100}", f"no. {red}"}


def test_rows_without_a_text_are_counted(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()
    path = shard(
        tmp_path / "a.parquet",
        {"png": [picture(n) for n in range(4)], "txt": ["red", None, "  ", "dark"]},
    )
    found = list(read_parquet(path, skipped))
    assert [
        (entry.captions, entry.open()[0].getpixel((0, 0))[0]) for entry in found
    ] == [
        (("red",), 0),
        (("dark",), 3),
    ]
    assert skipped == {"no text": 2}


def test_other_columns_and_other_files_are_refused(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.parquet", {"photo": [b""], "caption": ["red"]})
    with pytest.raises(
        DataInvalid, match=r"columns photo, caption: one of image, jpg.* is needed"
    ):
        list(read_parquet(path, Counter()))
    path.write_bytes(b"PAR1 cut short")
    with pytest.raises(DataInvalid, match=r"a\.parquet is cut off or no Parquet file"):
        list(read_parquet(path, Counter()))


def test_a_picture_that_is_none_is_told_by_its_place(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "a.parquet",
        {"jpg": [b"no picture", None], "caption": ["red", "blue"]},
    )
    for entry in read_parquet(path, Counter()):
        with pytest.raises(DataInvalid, match=r"a\.parquet, row [01] of row group 0"):
            entry.open()
