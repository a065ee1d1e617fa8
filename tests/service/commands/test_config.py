"""`precis config`, and the settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import Settings, settings_file
from tests.service.commands.conftest import Precis


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file, not yet there."""
    monkeypatch.setattr("service.settings.user_config_path", lambda *_, **__: tmp_path)
    return settings_file()


def shown(precis: Precis, *flags: str) -> dict[str, list[str]]:
    """Source and value of each setting, by its name."""
    result = precis("config", *flags)
    assert result.exit_code == 0, result.output
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()[1:]]
    return {name: rest for name, *rest in lines}


def test_each_setting_is_shown_with_its_source(
    precis: Precis, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('port = 1\nkeep = "none"\nbatch_size = 3\n')
    monkeypatch.setenv("PRECIS_PORT", "2")
    monkeypatch.setenv("PRECIS_KEEP", "original")
    settings = shown(precis, "--port", "3")
    assert list(settings) == list(Settings.model_fields)
    assert settings["port"] == ["flag", "3"]
    assert settings["keep"] == ["environment", "original"]
    assert settings["batch_size"] == ["file", "3"]
    assert settings["store"] == ["default", "sqlite"]
    assert settings["codec"] == ["default", "-"]


def test_what_is_shown_is_what_the_settings_are(file: Path) -> None:
    file.write_text('port = 1\nkeep = "none"\n')
    assert Settings() == Settings(port=1, keep="none")
    assert Settings(port=2).port == 2


def test_secrets_are_masked(precis: Precis, file: Path) -> None:
    file.write_text('api_key = "correct horse"\n')
    result = precis("config")
    assert "horse" not in result.output
    assert shown(precis)["api_key"] == ["file", "**********"]


def test_of_a_store_the_place_is_shown(precis: Precis, file: Path) -> None:
    store = "postgresql://me:p@ss@db.example:5432/pictures?password=horse"
    settings = shown(precis, "--store", store)
    assert settings["store"] == ["flag", "postgresql://db.example:5432/pictures"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"port = ", "is not TOML"),
        (b"port = '\xff'", "is not TOML"),
        (b"colour = 'red'", "there is no setting 'colour'"),
        (b"port = 'eighty'", "--port (or PRECIS_PORT)"),
    ],
)
def test_a_settings_file_that_makes_no_sense_is_a_usage_error(
    precis: Precis, file: Path, content: bytes, complaint: str
) -> None:
    file.write_bytes(content)
    refused = precis("config")
    assert refused.exit_code == 2
    assert complaint in refused.output
