"""Tuning an LVLM itself: `precis train base`, its parts, and the merged folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from compressor.errors import ModelFilesInvalid, ModelFilesMissing, RecipeInvalid
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.load import assemble
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training import base_parts
from compressor.training.cli import base
from compressor.training.config import TrainConfig
from tests.compressor.training.samples import logged
from tests.compressor.training.test_cli import RECIPE, one_line, researchers_folder

PROJECTOR = "multi_modal_projector"
TUNING = RECIPE + (
    'second_pass_input = "all visual tokens"\nfirst_pass_lr = 0\ncontrastive_weight = 0\n'
    f'base_lr = 1e-2\nbase_modules = ["{PROJECTOR}"]\nsecond_pass_lr = 1e-2\nlora_rank = 2\n'
    "lora_alpha = 4\n"
)
SETTINGS = {"token_count": 1, "lora_rank": 2, "lora_alpha": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return researchers_folder(tmp_path_factory.mktemp("tuned"))


def tuned(folder: Path, run: Path, recipe: str, *options: str) -> Result:
    """Runs `precis train base`; its parts and run are in `run`."""
    run.mkdir(exist_ok=True)
    (run / "recipe.toml").write_text(recipe)
    folders = {
        "--model": folder / "model",
        "--data": folder / "data.json",
        "--images": folder / "images",
        "--parts": run / "parts",
        "--run": run / "run",
        "--recipe": run / "recipe.toml",
    }
    arguments = [part for name, path in folders.items() for part in (name, str(path))]
    return CliRunner().invoke(base, [*arguments, *options])


def loaded(folder: Path, name: str = "tiny") -> SummaryLvlm:
    return assemble(folder, SummaryConfig(name, **SETTINGS))


def answers(model: SummaryLvlm, adapter: bool) -> torch.Tensor:
    """Logits of a prompt with an image, under the LoRA that tuning trains or without it."""
    images = [Image.linear_gradient("L").convert("RGB")]
    prompt = model.uncompressed_prompt([images], [[("user", "what is in the image")]])
    with torch.no_grad(), model.adapters.use("second_pass" if adapter else None):
        hidden = model.decoder(**prompt.inputs, use_cache=False).last_hidden_state
        logits: torch.Tensor = model.output_head(hidden[:, -1])
    return logits


@pytest.fixture(scope="module")
def result(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, `merged` inside."""
    run = tmp_path_factory.mktemp("result")
    done = tuned(folder, run, TUNING + "steps = 6\n", "--merged", str(run / "merged"))
    assert done.exit_code == 0, done.output
    return run


def test_tuning_lowers_the_loss_and_trains_lora_and_projector(
    folder: Path, result: Path
) -> None:
    losses = [line["autoregressive"] for line in logged(result / "run")]
    assert losses[-1] < losses[0]
    before = AutoModelForImageTextToText.from_pretrained(folder / "model").state_dict()
    trained = load_file(result / "parts" / "base_modules.safetensors")
    assert trained
    assert all(PROJECTOR in name for name in trained)
    assert any(not torch.equal(before[name], trained[name]) for name in trained)


def test_the_merged_folder_answers_as_the_tuned_model_does(
    folder: Path, result: Path
) -> None:
    model = loaded(folder / "model")
    untuned = answers(model, adapter=True)
    base_parts.load(model, result / "parts")
    expected = answers(model, adapter=True)
    merged = answers(loaded(result / "merged"), adapter=False)
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(untuned, expected, atol=1e-3)


def test_tuning_goes_on_from_the_parts(
    folder: Path, result: Path, tmp_path: Path
) -> None:
    shutil.copytree(result / "parts", tmp_path / "parts")
    more = tuned(folder, tmp_path, TUNING + "steps = 1\n")
    assert more.exit_code == 0, more.output
    (first,) = logged(tmp_path / "run")
    assert first["autoregressive"] < logged(result / "run")[0]["autoregressive"]


def test_parts_of_another_rank_are_refused(
    folder: Path, result: Path, tmp_path: Path
) -> None:
    shutil.copytree(result / "parts", tmp_path / "parts")
    recipe = TUNING.replace("lora_rank = 2", "lora_rank = 3")
    refused = tuned(folder, tmp_path, recipe + "steps = 1\n")
    assert "rank 2 and alpha 4" in one_line(refused)


def test_incomplete_parts_are_refused(result: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(result / "merged")
    with pytest.raises(ModelFilesMissing):
        base_parts.merge(model, tmp_path)
    shutil.copytree(result / "parts", tmp_path / "parts")
    (tmp_path / "parts" / "base_adapter.safetensors").write_bytes(b"no")
    with pytest.raises(ModelFilesInvalid):
        base_parts.merge(model, tmp_path / "parts")


def test_a_module_that_the_model_lacks_is_refused(folder: Path, tmp_path: Path) -> None:
    recipe = TUNING.replace(PROJECTOR, "connector")
    refused = tuned(folder, tmp_path, recipe + "steps = 1\n")
    assert "no module connector" in one_line(refused)


def test_a_recipe_that_tunes_nothing_is_refused(folder: Path, tmp_path: Path) -> None:
    recipe = RECIPE + "contrastive_weight = 0\nsteps = 1\n"
    assert "needs base_lr" in one_line(tuned(folder, tmp_path, recipe))


def test_only_all_visual_tokens_train_the_base() -> None:
    with pytest.raises(RecipeInvalid, match="all visual tokens"):
        TrainConfig(base_lr=1e-3, base_modules=(PROJECTOR,))
    with pytest.raises(RecipeInvalid, match="need each other"):
        TrainConfig(base_lr=1e-3)
