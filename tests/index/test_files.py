"""Files are replaced whole or not at all; an I/O error becomes the index's own."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from index.errors import StoreError, StoreFull, StoreReadOnly
from index.files import Write, checksum, store_errors, write_bytes, write_whole


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EACCES, StoreReadOnly),
        (errno.EROFS, StoreReadOnly),
        (errno.EIO, StoreError),
    ],
)
def test_an_io_error_becomes_a_store_error_of_its_kind(
    number: int, kind: type[StoreError]
) -> None:
    expected = pytest.raises(StoreError, match="it cannot be written: the reason")
    with expected as caught, store_errors("it cannot be written"):
        raise OSError(number, "the reason")
    assert type(caught.value) is kind


def test_other_errors_pass(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="as it was"),
        store_errors("it cannot be written"),
    ):
        raise ValueError("as it was")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail(write: Write) -> None:
        write(b"half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_checksum_has_the_size_asked_for() -> None:
    # BLAKE2b with an output of eight bytes is another hash than the first eight of a longer one.
    assert checksum(b"", 8).hex() == "e4a6a0577479b2b4"
    assert len(checksum(b"data", 16)) == 16
    assert not checksum(b"data", 16).startswith(checksum(b"data", 8))
