"""Trained parts on disk: what comes back, what changes the fingerprint, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from compressor.errors import ModelFilesInvalid, ModelFilesMissing
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.model import SummaryLvlm
from tests.compressor.tiny import CONFIG, tiny_model, trained

FILES = (
    "summary.json",
    "summary.safetensors",
    "first_pass/adapter_config.json",
    "first_pass/adapter_model.safetensors",
    "second_pass/adapter_config.json",
    "second_pass/adapter_model.safetensors",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    adapter_folder.save(trained(tiny_model()), tmp_path / "trained")
    return tmp_path / "trained"


def test_what_was_saved_comes_back(folder: Path, model: SummaryLvlm) -> None:
    original = trained(tiny_model())
    adapter_folder.load(model, folder)
    found = dict(model.trained_parameters())
    for name, parameter in original.trained_parameters():
        expected = parameter.half().float() if "lora" in name else parameter
        torch.testing.assert_close(found[name], expected, atol=0, rtol=0)
    assert sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*.*")
    ) == sorted(FILES)


@pytest.mark.filterwarnings("ignore:Could not find a config file")
def test_where_the_base_lay_is_not_saved(folder: Path, tmp_path: Path) -> None:
    model = trained(tiny_model())
    for config in model.lvlm.peft_config.values():
        config.base_model_name_or_path = str(tmp_path / "base")
    adapter_folder.save(model, tmp_path / "elsewhere")
    assert adapter_folder.fingerprint(folder) == adapter_folder.fingerprint(
        tmp_path / "elsewhere"
    )


def test_statistics_of_the_retrieval_head_come_back(
    tmp_path: Path, model: SummaryLvlm
) -> None:
    model.head.fit_statistics(torch.randn(9, 64), torch.randn(9, 64) * 3)
    adapter_folder.save(model, tmp_path)
    other = tiny_model()
    adapter_folder.load(other, tmp_path)
    torch.testing.assert_close(other.head.text_std, model.head.text_std)
    torch.testing.assert_close(other.head.image_mean, model.head.image_mean)


def test_every_byte_of_the_weights_counts_in_the_fingerprint_and_the_model_card_does_not(
    folder: Path,
) -> None:
    whole = adapter_folder.fingerprint(folder)
    assert len(whole) == 32
    int(whole, 16)
    (folder / "README.md").write_text("a model card")
    assert adapter_folder.fingerprint(folder) == whole
    for name in FILES:
        content = (folder / name).read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            (folder / name).write_bytes(
                content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            )
            assert adapter_folder.fingerprint(folder) != whole, name
        (folder / name).write_bytes(content)
    assert adapter_folder.fingerprint(folder) == whole
    (folder / "base.json").write_text("{}")
    assert adapter_folder.fingerprint(folder) != whole


def test_a_renamed_file_is_another_fingerprint(folder: Path) -> None:
    whole = adapter_folder.fingerprint(folder)
    (folder / "first_pass").rename(folder / "swap")
    (folder / "second_pass").rename(folder / "first_pass")
    (folder / "swap").rename(folder / "second_pass")
    assert adapter_folder.fingerprint(folder) != whole


@pytest.mark.parametrize(
    "change", [{"base_model": "another"}, {"token_count": 4}, {"lora_rank": 2}]
)
def test_other_settings_are_refused(folder: Path, change: dict[str, object]) -> None:
    with pytest.raises(ModelFilesInvalid, match="other settings"):
        adapter_folder.load(tiny_model(**change), folder)


@pytest.mark.parametrize(
    "name", [name for name in FILES if "adapter_config" not in name]
)
def test_a_missing_file_is_said_so(folder: Path, model: SummaryLvlm, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFilesMissing):
        adapter_folder.load(model, folder)


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.endswith(".safetensors")]
)
@pytest.mark.parametrize("length", [0, 7, 600])
def test_a_damaged_file_is_said_so(
    folder: Path, model: SummaryLvlm, name: str, length: int
) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:length])
    with pytest.raises(ModelFilesInvalid):
        adapter_folder.load(model, folder)


@pytest.mark.parametrize(
    "name", ["summary.safetensors", "second_pass/adapter_model.safetensors"]
)
def test_missing_unknown_or_misshapen_parts_are_refused(
    folder: Path, model: SummaryLvlm, name: str
) -> None:
    whole = load_file(folder / name)
    first = sorted(whole)[0]
    for wrong in (
        {key: value for key, value in whole.items() if key != first},
        {**whole, "another": torch.zeros(1)},
        {**whole, first: torch.zeros(3, 3, 3)},
    ):
        save_file(wrong, folder / name)
        with pytest.raises(ModelFilesInvalid):
            adapter_folder.load(model, folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"format_version": 1}',
        json.dumps({"base_model": "x", "format_version": 99}),
    ],
)
def test_settings_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(ModelFilesInvalid):
        SummaryConfig.load(tmp_path)


def test_unknown_and_missing_settings_are_named(tmp_path: Path) -> None:
    CONFIG.save(tmp_path)
    assert SummaryConfig.load(tmp_path) == CONFIG
    values = json.loads((tmp_path / "summary.json").read_text())
    del values["readout"]
    (tmp_path / "summary.json").write_text(json.dumps({**values, "colour": 1}))
    with pytest.raises(ModelFilesInvalid, match="colour, readout"):
        SummaryConfig.load(tmp_path)
    with pytest.raises(ModelFilesMissing):
        SummaryConfig.load(tmp_path / "nowhere")


def test_budgets_are_part_of_the_fingerprint(folder: Path) -> None:
    assert SummaryConfig.load(folder).budgets == ()
    whole = adapter_folder.fingerprint(folder)
    replace(CONFIG, budgets=(2, 8)).save(folder)
    assert json.loads((folder / "summary.json").read_text())["budgets"] == [2, 8]
    assert SummaryConfig.load(folder).budgets == (2, 8)
    assert adapter_folder.fingerprint(folder) != whole


@pytest.mark.parametrize(
    "budgets", [3, 0, None, [4, 2, 8], [2, 4], [2, 16], ["8"], [True, 8], [0, 8]]
)
def test_budgets_that_do_not_rise_to_the_number_of_tokens_are_refused(
    folder: Path, budgets: object
) -> None:
    written = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**written, "budgets": budgets}))
    with pytest.raises(
        ModelFilesInvalid, match="budgets must be numbers that rise to the 8 tokens"
    ):
        SummaryConfig.load(folder)
