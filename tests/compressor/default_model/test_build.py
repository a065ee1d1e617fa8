"""Building and loading the default model, from a few thousand weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers.utils.logging import is_progress_bar_enabled

from compressor.default_model import base_model, build
from compressor.default_model.checkpoints import load_tokenizer
from compressor.errors import ModelFilesMissing
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.load import assemble, load_production
from compressor.fwd2bot.progress_bars import no_progress_bars
from compressor.training import base_parts
from tests.compressor.tiny import tiny_base, trained
from tests.conformance.summary_model_suite import pictures

MODULES = ("multi_modal_projector",)


def write_tiny(folder: Path, parts: Path | None = None) -> None:
    """Stands in for `write_base`, which reads the packages' checkpoints."""
    model, processor = tiny_base()
    if parts is not None:
        base_parts.merge(model, parts)
    with no_progress_bars():
        model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the shipped weights, as `precis train base` and `train lvlm` fill it."""
    folder = tmp_path / "weights"
    write_tiny(tmp_path / "untuned")
    tuned = assemble(
        tmp_path / "untuned", SummaryConfig("tiny", token_count=1, lora_rank=2)
    )
    base_parts.make_trainable(tuned, MODULES)
    base_parts.save(trained(tuned), MODULES, folder)
    write_tiny(tmp_path / "tuned", folder)
    name = adapter_folder.base_name(tmp_path / "tuned")
    config = SummaryConfig(
        name, token_count=4, embedding_size=8, lora_rank=2, budgets=(2, 4)
    )
    adapter_folder.save(trained(assemble(tmp_path / "tuned", config)), folder)
    monkeypatch.setattr(build, "WEIGHTS", folder)
    monkeypatch.setattr(base_model, "write_base", write_tiny)
    return folder


def test_the_default_model_is_its_base_with_its_adapters(
    weights: Path, tmp_path: Path
) -> None:
    """What the generic loader makes of the same two folders."""
    summary, _ = build.load_default(tmp_path / "cache")
    assert summary.fingerprint == adapter_folder.fingerprint(weights)
    assert summary.description.budgets == (2, 4)
    generic, _ = load_production(build.build(tmp_path / "cache"), weights)
    found, expected = summary.compress(pictures()), generic.compress(pictures())
    np.testing.assert_allclose(found.tokens, expected.tokens, atol=1e-6)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-6)


def test_transformers_shows_no_progress_on_a_users_terminal(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert is_progress_bar_enabled()
    capfd.readouterr()
    build.load_default(tmp_path / "cache")
    load_tokenizer()  # out of a GGUF file
    assert capfd.readouterr().err == ""
    assert is_progress_bar_enabled()


def test_a_base_whose_configuration_is_written_otherwise_is_the_same(
    weights: Path, tmp_path: Path
) -> None:
    """Another release of Transformers adds fields; the adapters' base has another name then."""
    before = build.load_default(tmp_path / "cache")[0].compress(pictures())
    config = build.build(tmp_path / "cache") / "config.json"
    config.write_text(config.read_text() + " ")
    after = build.load_default(tmp_path / "cache")[0].compress(pictures())
    np.testing.assert_array_equal(before.tokens, after.tokens)


@pytest.mark.parametrize("file", base_parts.FILES)
def test_each_part_is_needed_and_decides_the_edition(
    weights: Path, tmp_path: Path, file: str
) -> None:
    before = build.build(tmp_path / "cache")
    assert build.build(tmp_path / "cache") == before
    part = weights / file
    if file == base_parts.FILE_NAME:
        part.write_text(part.read_text().replace('"lora_alpha": 16', '"lora_alpha": 8'))
    else:
        state = load_file(part)
        save_file({name: value * 2 for name, value in state.items()}, part)
    after = build.build(tmp_path / "cache")
    assert after != before
    changed = load_file(after / "model.safetensors")
    same = load_file(before / "model.safetensors")
    assert any(not changed[name].equal(same[name]) for name in same)
    part.unlink()
    with pytest.raises(ModelFilesMissing, match=file):
        build.build(tmp_path / "cache")


def test_every_part_of_the_base_is_in_the_fingerprint(weights: Path) -> None:
    before = adapter_folder.fingerprint(weights)
    for file in base_parts.FILES:
        part = weights / file
        content = part.read_bytes()
        part.write_bytes(content + b" ")
        assert adapter_folder.fingerprint(weights) != before
        part.write_bytes(content)
    assert adapter_folder.fingerprint(weights) == before


def test_a_build_that_fails_leaves_no_folder(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path, parts: Path | None = None) -> None:
        write_tiny(folder, parts)
        raise ModelFilesMissing("gone")

    monkeypatch.setattr(base_model, "write_base", fails)
    with pytest.raises(ModelFilesMissing, match="gone"):
        build.build(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("base-*[0-9a-f]"))
