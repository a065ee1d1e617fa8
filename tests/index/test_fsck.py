"""Checking and repairing a data folder: every kind of damage is found, named, and mended without
loss.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.data_folder import COLLECTIONS
from index.errors import StoreBusy, StoreError
from index.fsck import DAMAGED_FOLDER, Finding, Report, check_folder
from index.library import Library
from index.store.record_format import encode_record
from index.store.sqlite import FILE_NAME
from tests.index.libraries import counts, open_here, opened, snapshots, top
from tests.index.samples import make_id, make_ids, make_image, make_images, make_record

COUNT = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed library of twelve images, every third with a picture."""
    library = open_here(tmp_path)
    library.put(make_images(range(COUNT)))
    library.close()
    return tmp_path


def test_a_check_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no library"):
        check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_collections_are_checked_and_repaired_too(folder: Path) -> None:
    cats = folder / COLLECTIONS / "cats"
    with opened(cats) as library:
        library.put([make_image(0)])
    # As a crash between making the folder and its store leaves it.
    (folder / COLLECTIONS / "begun").mkdir()
    assert check_folder(folder) == Report(COUNT + 1, [])
    execute(cats, "UPDATE images SET record = zeroblob(length(record))")
    (finding,) = check_folder(folder).findings
    assert (finding.part, finding.collection) == ("record", "cats")
    assert not finding.repaired
    assert check_folder(folder, repair=True).sound
    assert len(list((cats / DAMAGED_FOLDER).iterdir())) == 2
    (cats / FILE_NAME).unlink()
    (finding,) = check_folder(folder).findings
    assert (finding.what, finding.collection) == ("the store is missing", "cats")
    assert not (cats / FILE_NAME).exists()


def execute(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / FILE_NAME)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.fixture
def reopened(folder: Path) -> Iterator[list[Library]]:
    """Libraries to be closed at the end."""
    opened: list[Library] = []
    yield opened
    for library in opened:
        library.close()


def parts_and_ids(findings: list[Finding]) -> list[tuple[str, str | None]]:
    return [(finding.part, finding.id) for finding in findings]


def parts(findings: list[Finding]) -> list[str]:
    return [finding.part for finding in findings]


def check_and_repair(folder: Path) -> list[Finding]:
    """What a check finds; that it changes nothing, that a repair mends it all, and that nothing is
    left.
    """
    before = (folder / FILE_NAME).read_bytes()
    found = check_folder(folder)
    assert (folder / FILE_NAME).read_bytes() == before
    assert not any(finding.repaired for finding in found.findings)
    mended = check_folder(folder, repair=True)
    assert mended.sound
    assert parts_and_ids(mended.findings) == parts_and_ids(found.findings)
    assert check_folder(folder).findings == []
    return found.findings


def flip(column: str, table: str, row: int, position: int) -> str:
    """SQL that overwrites one byte."""
    return (
        f"UPDATE {table} SET {column} = CAST(substr({column}, 1, {position}) || X'FE' ||"
        f" substr({column}, {position + 2}) AS BLOB) WHERE row = {row}"
    )


def test_a_sound_library_is_sound(folder: Path) -> None:
    report = check_folder(folder)
    assert (report.images, report.findings, report.sound) == (COUNT, [], True)


def test_an_empty_library_is_sound(tmp_path: Path) -> None:
    open_here(tmp_path).close()
    assert check_folder(tmp_path).findings == []


def test_a_damaged_record_is_put_aside(folder: Path, reopened: list[Library]) -> None:
    execute(folder, flip("record", "images", 2, 60), flip("record", "images", 4, 100))
    findings = check_and_repair(folder)
    assert parts_and_ids(findings) == [("record", make_id(1)), ("record", make_id(3))]
    aside = {path.name for path in (folder / DAMAGED_FOLDER).iterdir()}
    assert aside == {"picture-4.bin", "record-2.bin", "record-4.bin"}
    library = open_here(folder)
    reopened.append(library)
    assert counts(library) == {COUNT - 2}
    assert library.put([make_image(1)])[0].created


def test_a_record_in_the_place_of_another_is_put_aside(folder: Path) -> None:
    execute(
        folder,
        "UPDATE images SET record = (SELECT record FROM images WHERE row = 1) WHERE row = 2",
    )
    findings = check_and_repair(folder)
    assert ("record", make_id(1)) in parts_and_ids(findings)


def test_a_damaged_a_missing_and_a_stray_picture(
    folder: Path, reopened: list[Library]
) -> None:
    execute(
        folder,
        flip("picture", "pictures", 1, 20),
        "DELETE FROM pictures WHERE row = 4",
        "INSERT INTO pictures SELECT 999, picture FROM pictures WHERE row = 7",
        "INSERT INTO pictures SELECT 2, picture FROM pictures WHERE row = 7",
    )
    findings = check_and_repair(folder)
    assert parts_and_ids(findings) == [
        ("picture", make_id(0)),
        ("picture", make_id(1)),
        ("picture", make_id(3)),
        ("picture", None),
    ]
    library = open_here(folder)
    reopened.append(library)
    records = library.get(make_ids(range(COUNT)), with_picture=True)
    with_picture = [n for n, record in enumerate(records) if record and record.picture]
    assert with_picture == [6, 9]


def test_columns_terms_and_totals_are_made_anew(
    folder: Path, reopened: list[Library]
) -> None:
    execute(
        folder,
        "INSERT INTO fingerprints VALUES (77, 'another')",
        "UPDATE images SET fingerprint = 77 WHERE row = 3",
        "DELETE FROM terms WHERE row = 5",
        "UPDATE store SET images = 3, picture_bytes = 1",
    )
    assert parts(check_and_repair(folder)) == ["columns", "terms", "totals"]
    library = open_here(folder)
    reopened.append(library)
    assert top(library, 2) == [make_id(2)]


def test_a_damaged_snapshot_is_deleted(folder: Path) -> None:
    (snapshot,) = snapshots(folder)
    snapshot.write_bytes(snapshot.read_bytes()[1:])
    assert parts(check_and_repair(folder)) == ["snapshot"]
    assert snapshots(folder) == []


def test_a_missing_codec_state_cannot_be_repaired(folder: Path) -> None:
    data = encode_record(make_record(0, codec="pq4@01234567"), has_picture=True)
    connection = sqlite3.connect(folder / FILE_NAME)
    with connection:
        connection.execute(
            "UPDATE images SET record = ?, token_bytes = 96 WHERE row = 1", (data,)
        )
    connection.close()
    report = check_folder(folder, repair=True)
    unrepaired = [finding for finding in report.findings if not finding.repaired]
    assert parts(unrepaired) == ["codec"]
    assert not report.sound


def test_damage_to_the_file_itself_is_told(folder: Path) -> None:
    data = bytearray((folder / FILE_NAME).read_bytes())
    # The root page of the index of fingerprints: SQLite finds rows missing from it.
    connection = sqlite3.connect(folder / FILE_NAME)
    ((page,),) = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'images_by_fingerprint'"
    ).fetchall()
    connection.close()
    data[page * 8192 - 1] ^= 1
    (folder / FILE_NAME).write_bytes(data)
    report = check_folder(folder)
    assert "file" in parts(report.findings)
    assert check_folder(folder, repair=True).sound
    assert check_folder(folder).findings == []


def test_every_flipped_byte_of_a_record_on_disk_is_found(folder: Path) -> None:
    """Not every position (test_record_format.py), but through the file and the report."""
    connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    ((whole,),) = connection.execute(
        "SELECT record FROM images WHERE row = 2"
    ).fetchall()
    for position in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        connection.execute(
            "UPDATE images SET record = ? WHERE row = 2", (bytes(damaged),)
        )
        report = check_folder(folder)
        assert parts_and_ids(report.findings) == [("record", make_id(1))]
    connection.execute("UPDATE images SET record = ? WHERE row = 2", (whole,))
    connection.close()
    assert check_folder(folder).findings == []


def test_a_library_in_use_or_none_is_not_checked(tmp_path: Path) -> None:
    library = open_here(tmp_path / "used")
    with pytest.raises(StoreBusy):
        check_folder(tmp_path / "used")
    library.close()
    with pytest.raises(StoreError):
        check_folder(tmp_path / "none")
    assert not (tmp_path / "none").exists()
