"""Flags of settings: checked as those of the service, and none that a command does not use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from compressor.ports import GenerationLimits, GenerationRequest, Piece
from index.store.sqlite import SqliteStore
from service.commands.flags import BOTH_PASSES, FIRST_PASS
from service.models import MODELS, Models
from service.settings import Settings
from tests.clients.command_walk import every_command
from tests.conformance.tiny_lvlm import tiny_lvlm
from tests.fakes.model import FakeGenerator, FakeSummaryModel
from tests.service.commands.conftest import Precis
from tests.service.conftest import Start, add, stop

ROOT = Path(__file__).parents[3]
COMMANDS = [
    ("calibrate", "--data", ".", "curve.json"),
    ("migrate",),
    ("rates", "--data", "."),
    ("recode", "fp16"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=[name for name, *_ in COMMANDS])
def test_a_setting_that_makes_no_sense_is_a_usage_error(
    precis: Precis, command: tuple[str, ...]
) -> None:
    refused = precis(*command, "--device", "gpu")
    assert refused.exit_code == 2
    assert "--device (or PRECIS_DEVICE)" in refused.output


def test_a_model_that_does_not_exist_is_an_error_of_one_line(
    precis: Precis, tmp_path: Path
) -> None:
    SqliteStore(tmp_path).close()
    refused = precis("recode", "fp16", "--model", "nonsense", "--data-dir", tmp_path)
    assert refused.exit_code == 1
    assert "There is no model 'nonsense'; choose one of" in refused.output


class Watched:
    """What a command read of its settings, and of the model that it loaded."""

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.loaded_with: list[Settings] = []
        self.has_answered = False

    def make(self, settings: Settings) -> Models:
        """A model factory."""
        self.loaded_with.append(settings)
        return Models(FakeSummaryModel(), _WatchedGenerator(self))

    def make_tiny(self, settings: Settings) -> Models:
        """A model factory, of an LVLM in torch."""
        self.loaded_with.append(settings)
        return Models(*tiny_lvlm(hidden_size=256))

    def used(self, flags: dict[str, str]) -> set[str]:
        """Which of these flags the command did not ignore."""
        used = self.read - set(BOTH_PASSES)
        for settings in self.loaded_with:
            passed = {
                name for name in flags if str(getattr(settings, name)) == flags[name]
            }
            used |= passed & set(FIRST_PASS)
            if self.has_answered:
                used |= passed & set(BOTH_PASSES)
        return used & set(flags)


class _WatchedGenerator(FakeGenerator):
    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        self._watched.has_answered = True
        return super().generate(requests, limits)


@pytest.fixture
def watched(precis: Precis, monkeypatch: pytest.MonkeyPatch) -> Watched:
    watched = Watched()
    monkeypatch.setitem(MODELS, "fake", watched.make)
    monkeypatch.setitem(MODELS, "tiny", watched.make_tiny)
    plain = Settings.__getattribute__

    def noted(settings: Settings, name: str) -> object:
        watched.read.add(name)
        return plain(settings, name)

    monkeypatch.setattr(Settings, "__getattribute__", noted)
    return watched


# What a command is called with beside its flags; {} is a folder with all that they need.
ARGUMENTS = {
    ("backup",): "{}/new",
    ("calibrate",): "--data {}/data {}/new",
    ("export", "library"): "{}/new",
    ("export", "second-pass"): "{}/new",
    ("fsck",): "",
    ("import",): "{}/export",
    ("keys", "create"): "",
    ("keys", "list"): "",
    ("keys", "revoke"): "abc",
    ("migrate",): "",
    ("rates",): "--data {}/data",
    ("recode",): "fp16",
    ("restore",): "{}/backup",
    ("score",): "answers {}/asked.jsonl --images {}/data/images",
}


def commands_with_flags() -> dict[tuple[str, ...], set[str]]:
    """Each command with flags of settings, and the names of these settings."""
    found = {}
    for path, command in every_command():
        names = {
            parameter.name or ""
            for parameter in command.params
            if isinstance(parameter, click.Option)
            and "[env: PRECIS_" in (parameter.help or "")
        }
        if names and path[0] != "model":
            found[path] = names
    return found


def test_every_command_with_flags_is_tried_below() -> None:
    of_all_settings = {("serve",), ("config",)}
    assert set(commands_with_flags()) - of_all_settings == set(ARGUMENTS)


@pytest.mark.usefixtures("questions")
@pytest.mark.parametrize("path", ARGUMENTS, ids=" ".join)
def test_a_command_uses_every_flag_that_it_takes(
    path: tuple[str, ...],
    start: Start,
    precis: Precis,
    data_dir: Path,
    watched: Watched,
    tmp_path: Path,
) -> None:
    client = start()
    add(client, "red")
    stop(client)
    asked = {"image": "red_red.png", "question": "what?", "answer": "I see red"}
    (tmp_path / "asked.jsonl").write_text(json.dumps(asked))
    for prepared in ("backup", "export library"):
        target = tmp_path / prepared.split()[0]
        done = precis(*prepared.split(), target, "--data-dir", data_dir)
        assert done.exit_code == 0, done.output
    values = {
        "model": "tiny" if path == ("export", "second-pass") else "fake",
        "model_dir": str(tmp_path / "model"),
        "adapters": str(tmp_path / "adapters"),
        "device": "cpu",
        "dtype": "float32",
        "soft_words": "parallel",
        "first_pass_engine": "torch",
        "second_pass_engine": "vllm",
        "second_pass_url": "http://127.0.0.1:9/v1",
        "data_dir": str(tmp_path / "other" if path == ("restore",) else data_dir),
    }
    flags = commands_with_flags()[path]
    given = [
        word
        for name in sorted(flags & set(values))
        for word in (f"--{name.replace('_', '-')}", values[name])
    ]
    watched.read.clear()
    words = ARGUMENTS[path].format(tmp_path, tmp_path).split()
    # A group's flags come before the name of its command.
    done = precis(*path, *given, *words)
    assert done.exit_code == (1 if path == ("keys", "revoke") else 0), done.output
    assert watched.used({name: values.get(name, "") for name in flags}) == flags


def test_the_service_uses_every_setting() -> None:
    sources = [
        file.read_text()
        for file in (ROOT / "service").rglob("*.py")
        if file.name != "settings.py"
    ]
    read = set(re.findall(r"\.([a-z_]+)\b", "\n".join(sources)))
    assert set(Settings.model_fields) <= read
