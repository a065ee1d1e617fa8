"""Where settings come from: defaults of the platform, the environment, and flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from index.store.sqlite import SqliteStore
from service.settings import Settings
from tests.service.commands.conftest import Precis


def test_the_default_folders_do_not_depend_on_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Settings()
    monkeypatch.chdir(tmp_path)
    after = Settings()
    assert before == after
    for folder in (after.data_dir, after.model_dir):
        assert folder.is_absolute()
        assert not folder.is_relative_to(tmp_path)


@pytest.mark.parametrize("options", [(), ("--data-dir", "elsewhere")])
def test_a_library_at_the_earlier_default_is_mentioned_unless_a_folder_is_named(
    precis: Precis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    SqliteStore(tmp_path / "data").close()
    shown = precis("keys", "list", *options)
    assert shown.exit_code == 0
    mentions = str(tmp_path / "data") in shown.stderr
    assert mentions == (not options)
    assert ("--data-dir data" in shown.stderr) == mentions


def test_a_folder_of_another_kind_is_not_taken_for_a_library(
    precis: Precis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert str(tmp_path / "data") not in precis("keys", "list").stderr
