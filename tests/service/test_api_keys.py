"""API keys: stored as hashes, found by their text alone, ended at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from index.errors import InvalidCollectionName, StoreDamaged, StoreTooNew
from service.access import Access, AccessControl, is_loopback
from service.api_keys import FILE_NAME, ApiKeys
from service.errors import KeyNotSufficient, NoApiKey, NotAuthorized
from service.rate_limits import Limits
from service.settings import Settings


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[ApiKeys]:
    with closing(ApiKeys(tmp_path, now=lambda: 1_700_000_000.0)) as keys:
        yield keys


def edit(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / FILE_NAME)) as file, file:
        file.execute(statement)


def test_a_key_is_found_by_its_text_and_by_nothing_else(keys: ApiKeys) -> None:
    key, text = keys.create("camera", "write", ["pets"])
    other, _ = keys.create("", "read")
    assert keys.find(text) == key
    assert key.created_at_ms == 1_700_000_000_000
    assert keys.all() == sorted([key, other], key=lambda key: key.id)
    secret = text.rsplit(key.id, 1)[1]
    for wrong in (
        text[:-1],
        text + "a",
        text.replace("precis", "Precis"),
        f"precis_{other.id}{secret}",
        f"precis_000000000000{secret}",
        "precis_",
        "",
        "précis_ü_ö",
    ):
        assert keys.find(wrong) is None


def test_the_file_holds_no_secret(keys: ApiKeys, tmp_path: Path) -> None:
    key, text = keys.create("", "read")
    keys.close()
    secret = text.removeprefix(f"precis_{key.id}_").encode()
    assert len(secret) >= 43
    for file in tmp_path.iterdir():
        assert secret not in file.read_bytes()
    assert secret.decode() not in repr(key)


def test_questions_make_no_file(keys: ApiKeys, tmp_path: Path) -> None:
    assert not keys.exist()
    assert keys.all() == []
    assert keys.find("precis_a_b") is None
    assert not keys.revoke("a")
    assert list(tmp_path.iterdir()) == []


def test_another_process_s_revocation_counts_at_once(
    keys: ApiKeys, tmp_path: Path
) -> None:
    key, text = keys.create("", "read")
    with closing(ApiKeys(tmp_path, now=lambda: 1_800_000_000.0)) as elsewhere:
        assert elsewhere.revoke(key.id)
        assert not elsewhere.revoke(key.id)
        assert not elsewhere.revoke("other")
    assert keys.find(text) is None
    assert keys.all() == [replace(key, revoked_at_ms=1_800_000_000_000)]
    assert keys.exist()


@pytest.mark.parametrize(
    "damage",
    ["scope = 'admin'", "collections = NULL", "digest = 'text'", "digest = X'00'"],
)
def test_damage_ends_a_key_and_never_widens_it(
    keys: ApiKeys, tmp_path: Path, damage: str
) -> None:
    _, text = keys.create("", "read", ["pets"])
    edit(tmp_path, f"UPDATE keys SET {damage}")
    assert keys.find(text) is None


@pytest.mark.parametrize(
    "damage",
    [
        "requests_per_minute = NULL",
        "requests_per_minute = 6",
        "requests_per_minute = NULL, body_bytes_per_day = 5",
        "body_bytes_per_day = 7",
    ],
)
def test_damage_to_a_limit_ends_the_key(
    keys: ApiKeys, tmp_path: Path, damage: str
) -> None:
    key, text = keys.create("", "read", limits=Limits(requests_per_minute=5))
    assert keys.find(text) == key
    edit(tmp_path, f"UPDATE keys SET {damage}")
    assert keys.find(text) is None


def test_a_key_keeps_its_limits(keys: ApiKeys) -> None:
    key, text = keys.create("", "read", limits=Limits(5, 1000))
    assert key.limits == Limits(5, 1000)
    assert keys.find(text) == key
    assert keys.all() == [key]


def test_a_damaged_file_admits_nobody(keys: ApiKeys, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    with pytest.raises(StoreDamaged):
        keys.find("precis_a_b")
    control = AccessControl(Settings(data_dir=tmp_path), keys)
    with pytest.raises(StoreDamaged):
        control.access_of(None)


def test_a_later_version_is_left_alone(keys: ApiKeys, tmp_path: Path) -> None:
    keys.create("", "read")
    keys.close()
    edit(tmp_path, "PRAGMA user_version = 3")
    with pytest.raises(StoreTooNew):
        keys.exist()


def test_a_collection_s_name_is_checked(keys: ApiKeys, tmp_path: Path) -> None:
    with pytest.raises(InvalidCollectionName):
        keys.create("", "read", ["Pets"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.2", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_what_counts_as_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def control(keys: ApiKeys, folder: Path, **settings: object) -> AccessControl:
    return AccessControl(Settings(data_dir=folder, **settings), keys)  # type: ignore[arg-type]


def test_only_a_service_on_loopback_may_start_without_keys(
    keys: ApiKeys, tmp_path: Path
) -> None:
    control(keys, tmp_path).check_start()
    control(keys, tmp_path, host="0.0.0.0", allow_anonymous=True).check_start()
    control(keys, tmp_path, host="0.0.0.0", api_key="correct horse").check_start()
    open_to_all = control(keys, tmp_path, host="0.0.0.0")
    with pytest.raises(NoApiKey, match="--allow-anonymous"):
        open_to_all.check_start()
    keys.create("", "read")
    open_to_all.check_start()


def test_a_key_closes_a_service_even_once_it_is_revoked(
    keys: ApiKeys, tmp_path: Path
) -> None:
    service = control(keys, tmp_path, allow_anonymous=True)
    assert service.access_of(None) == Access("admin")
    key, text = keys.create("", "write", ["pets"])
    assert service.access_of(text) == Access("write", frozenset({"pets"}), key.id)
    keys.revoke(key.id)
    for wrong in (None, text):
        with pytest.raises(NotAuthorized):
            service.access_of(wrong)


def test_the_key_of_the_settings_opens_everything(
    keys: ApiKeys, tmp_path: Path
) -> None:
    service = control(keys, tmp_path, api_key="correct horse")
    assert service.access_of("correct horse") == Access("admin")
    for wrong in (None, "correct hors", "correct horsé", "\udcff"):
        with pytest.raises(NotAuthorized):
            service.access_of(wrong)


def test_scopes_include_the_smaller_ones() -> None:
    Access("admin").check("read", [])
    Access("write").check("read", ["pets"])
    with pytest.raises(KeyNotSufficient, match="scope write; the key has scope read"):
        Access("read").check("write", [])


@pytest.mark.parametrize("named", [[], ["cars"], ["pets", "cars"]])
def test_a_key_for_a_collection_reaches_nothing_else(named: list[str]) -> None:
    access = Access("admin", frozenset({"pets", "dogs"}))
    access.check("admin", ["pets"])
    access.check("admin", ["pets", "dogs"])
    with pytest.raises(KeyNotSufficient, match="dogs, pets"):
        access.check("read", named)
