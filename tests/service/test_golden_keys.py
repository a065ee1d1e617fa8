"""Files of API keys from every version: their keys still open the service, with what they grant."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from service.api_keys import FILE_NAME, VERSION, ApiKeys
from service.rate_limits import NO_LIMITS, Limits

GOLDEN = Path(__file__).parents[1] / "golden"
WRITER = "precis_0123456789ab_" + 14 * "one" + "A"
ADMIN = "precis_ba9876543210_" + 14 * "two" + "B"
REVOKED = "precis_00ff00ff00ff_" + 14 * "six" + "C"
# Limits of the writer, by version.
LIMITS = {1: NO_LIMITS, 2: Limits(60, 1_000_000)}


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        (version,) = file.execute("PRAGMA user_version").fetchone()
    return int(version)


def test_there_is_a_file_of_every_version() -> None:
    assert sorted(LIMITS) == list(range(1, VERSION + 1))


@pytest.mark.parametrize("version", LIMITS)
def test_the_keys_of_an_earlier_file_grant_what_they_did(
    version: int, tmp_path: Path
) -> None:
    path = tmp_path / FILE_NAME
    shutil.copy(GOLDEN / f"keys-v{version}.sqlite", path)
    assert version_of(path) == version
    with closing(ApiKeys(tmp_path)) as keys:
        writer, admin = keys.find(WRITER), keys.find(ADMIN)
        assert writer is not None
        assert (writer.name, writer.scope) == ("camera", "write")
        assert writer.collections == {"dogs", "pets"}
        assert writer.limits == LIMITS[version]
        assert admin is not None
        assert (admin.scope, admin.collections) == ("admin", None)
        assert admin.limits == NO_LIMITS
        assert keys.find(REVOKED) is None
        assert len(keys.all()) == 3
        added, text = keys.create("", "read", limits=Limits(5))
        assert keys.find(text) == added
    assert version_of(path) == VERSION
