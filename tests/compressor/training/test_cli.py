"""Adapters for an LVLM in a folder, trained from the command line and served."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.load import load_production
from compressor.training.cli import lvlm
from compressor.training.config import TrainConfig
from tests.compressor.production import llava as small_llava
from tests.compressor.training.samples import logged
from tests.compressor.training.test_datasets import llava as instructions
from tests.compressor.training.test_datasets import pictures
from tests.conformance.summary_model_suite import pictures as served_pictures

RECIPE = (
    "batch_size = 2\nquestions_per_image = 2\nwarmup_steps = 1\ncheckpoint_every_steps = 1\n"
    "workers = 0\n"
)
ANSWERS_ALONE = "contrastive_weight = 0\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, conversations and captions."""
    return researchers_folder(tmp_path_factory.mktemp("base"))


def researchers_folder(folder: Path) -> Path:
    """Fills the folder with `model`, `data.json` with its images, and `captions`."""
    for part in small_llava():
        part.save_pretrained(folder / "model")
    instructions(folder)
    pictures(folder / "captions" / "images")
    lines = [
        {"file": f"{n}.png", "captions": [f"square number {n}"]} for n in range(20)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "captions" / "index.jsonl").write_text(text)
    return folder


def trained(base: Path, run: Path, recipe: str, *options: str) -> Result:
    """Runs `precis train lvlm`; adapters and run are in `run`."""
    run.mkdir(exist_ok=True)
    (run / "recipe.toml").write_text(RECIPE + recipe)
    folders = {
        "--model": base / "model",
        "--data": base / "data.json",
        "--images": base / "images",
        "--adapters": run / "adapters",
        "--run": run / "run",
        "--recipe": run / "recipe.toml",
    }
    arguments = [part for name, path in folders.items() for part in (name, str(path))]
    return CliRunner().invoke(lvlm, [*arguments, *options])


def one_line(result: Result) -> str:
    """The error of a command that was refused in one line, without a traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = [
        line for line in result.output.splitlines() if line.startswith("Error: ")
    ]
    assert result.output.rstrip().endswith(line)
    return line


def test_trained_resumed_and_served(base: Path, tmp_path: Path) -> None:
    recipe = ANSWERS_ALONE + "token_count = 4\nlora_rank = 2\nembedding_size = 8\n"
    first = trained(base, tmp_path, recipe + "steps = 2")
    assert first.exit_code == 0, first.output
    before = adapter_folder.fingerprint(tmp_path / "adapters")
    again = trained(base, tmp_path, recipe + "steps = 3")
    assert again.exit_code == 0, again.output
    assert [line["step"] for line in logged(tmp_path / "run")] == [0, 1, 2]
    assert (tmp_path / "run" / "losses.png").exists()
    assert adapter_folder.fingerprint(tmp_path / "adapters") != before
    settings = SummaryConfig.load(tmp_path / "adapters")
    assert (settings.token_count, settings.lora_rank, settings.embedding_size) == (
        4,
        2,
        8,
    )
    (recorded,) = adapter_folder.recipes(tmp_path / "adapters")
    assert TrainConfig.from_values(recorded) == TrainConfig.read(
        tmp_path / "recipe.toml"
    )
    card = (tmp_path / "adapters" / "README.md").read_text()
    assert adapter_folder.fingerprint(tmp_path / "adapters") in card
    model, _ = load_production(base / "model", tmp_path / "adapters")
    assert model.tokens_shape == (4, 32)
    assert np.isfinite(model.compress(served_pictures()).tokens).all()


def test_a_caption_source_of_its_own_feeds_the_contrastive_loss(
    base: Path, tmp_path: Path
) -> None:
    recipe = "steps = 2\ncontrastive_batch_size = 6\nmicro_batch_size = 3\n"
    recipe += "eval_every = 2\neval_share = 0.3\neval_samples = 4\n"
    result = trained(base, tmp_path, recipe, "--captions", str(base / "captions"))
    assert result.exit_code == 0, result.output
    first, second = logged(tmp_path / "run")
    assert (first["pairs"], second["pairs"]) == (6, 6)
    assert first["contrastive"] > 0
    assert first["autoregressive"] > 0
    assert first["eval_autoregressive"] is None
    assert second["eval_autoregressive"] > 0
    assert second["eval_contrastive"] > 0
    assert set(first["lr"]) == {"first_pass", "second_pass", "head"}
    assert first["samples_per_second"] > 0
    assert 0 <= first["padding"] < 1


def test_a_contrastive_loss_without_captions_is_refused(
    base: Path, tmp_path: Path
) -> None:
    refused = one_line(trained(base, tmp_path, "steps = 2"))
    assert "no source has captions of at most 20 words" in refused
    assert not (tmp_path / "run").exists()


def test_a_step_without_pairs_logs_no_loss(base: Path, tmp_path: Path) -> None:
    data = tmp_path / "mixed"
    pictures(data / "images", 8)
    lines = [{"file": f"{n}.png", "questions": [["Which?", f"{n}."]]} for n in range(7)]
    lines.append({"file": "7.png", "captions": ["a square"]})
    (data / "index.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    (tmp_path / "recipe.toml").write_text(RECIPE + "steps = 4")
    folders = [
        ("--model", base / "model"),
        ("--data", data),
        ("--run", tmp_path / "run"),
    ]
    folders += [
        ("--adapters", tmp_path / "adapters"),
        ("--recipe", tmp_path / "recipe.toml"),
    ]
    arguments = [part for name, path in folders for part in (name, str(path))]
    result = CliRunner().invoke(lvlm, arguments)
    assert result.exit_code == 0, result.output
    pairs = [line["pairs"] for line in logged(tmp_path / "run")]
    assert sum(pairs) == 1
    assert {line["contrastive"] for line in logged(tmp_path / "run")} == {None}


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("stepps = 3", [], "unknown fields stepps"),
        (
            "contrastive_weight = 0\ncontrastive_batch_size = 4",
            [],
            "contrastive_weight above 0",
        ),
        ("contrastive_batch_size = 4", ["--captions", "captions"], ""),
        (
            ANSWERS_ALONE,
            ["--captions", "captions"],
            "needs a contrastive_weight above 0",
        ),
        ("", ["--captions", "data.json"], "no caption of at most 20 words"),
        (
            ANSWERS_ALONE + "token_count = 4",
            ["--summary-tokens", "8"],
            "4 summary tokens, not 8",
        ),
        (ANSWERS_ALONE + "budgets = [2, 32]", [], "32 is more than the model's 16"),
        (
            ANSWERS_ALONE + "eval_every = 1\neval_share = 1e-9",
            [],
            "these sources have none",
        ),
        (ANSWERS_ALONE, ["--weight", "1", "--weight", "2"], "1 sources of data need"),
        (ANSWERS_ALONE + "embedding_layers = [99]", [], "embedding_layers"),
        (
            ANSWERS_ALONE + 'target_modules = ["nowhere"]',
            [],
            "has no linear layer nowhere",
        ),
    ],
)
def test_bad_input_is_one_clear_line(
    base: Path, tmp_path: Path, recipe: str, options: list[str], message: str
) -> None:
    paths = [
        str(base / option) if option in ("captions", "data.json") else option
        for option in options
    ]
    result = trained(base, tmp_path, "steps = 1\n" + recipe, *paths)
    if message:
        assert message in one_line(result)
        assert not (tmp_path / "adapters").exists()
    else:
        assert result.exit_code == 0, result.output


def test_a_folder_without_a_model_or_a_processor_is_refused(
    base: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    for path in (copy / "model").glob("*processor*"):
        path.unlink()
    assert "has no image processor" in one_line(
        trained(copy, tmp_path, ANSWERS_ALONE + "steps = 1")
    )
    shutil.rmtree(copy / "model")
    (copy / "model").mkdir()
    assert "no model in" in one_line(
        trained(copy, tmp_path, ANSWERS_ALONE + "steps = 1")
    )
    assert not (tmp_path / "run").exists()


def test_adapters_that_exist_must_be_what_the_recipe_asks_for(
    base: Path, tmp_path: Path
) -> None:
    recipe = ANSWERS_ALONE + "steps = 1\nbudgets = [1, 2]\ntoken_count = 4\n"
    done = trained(base, tmp_path, recipe)
    assert done.exit_code == 0, done.output
    model, _ = load_production(base / "model", tmp_path / "adapters")
    assert model.description.budgets == (1, 2, 4)
    # Another run over the same adapters.
    shutil.rmtree(tmp_path / "run")
    other = trained(base, tmp_path, recipe + "lora_rank = 3\n")
    assert "lora_rank is 3, but the adapters have 16" in one_line(other)
    more = trained(
        base, tmp_path, ANSWERS_ALONE + "steps = 1\n", "--summary-tokens", "8"
    )
    assert "has 4 summary tokens, not 8" in one_line(more)


def test_a_run_is_not_resumed_in_another_dtype(base: Path, tmp_path: Path) -> None:
    assert trained(base, tmp_path, ANSWERS_ALONE + "steps = 1").exit_code == 0
    other = trained(base, tmp_path, ANSWERS_ALONE + 'steps = 2\ndtype = "bfloat16"')
    assert "dtype was 'auto', is 'bfloat16'" in one_line(other)


def test_images_that_cannot_be_read_are_counted(base: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    (copy / "images" / "3.png").write_bytes(b"no image")
    result = trained(copy, tmp_path, ANSWERS_ALONE + "steps = 10")
    assert result.exit_code == 0, result.output
    assert "Images that could not be read: 1" in result.output
    assert sum(line["broken"] for line in logged(tmp_path / "run")) == 1
    for number in range(0, 20, 2):
        Image.new("RGB", (8, 8)).save(copy / "images" / f"{number}.png")
        (copy / "images" / f"{number}.png").write_bytes(b"no image")
    shutil.rmtree(tmp_path / "run")
    refused = one_line(trained(copy, tmp_path, ANSWERS_ALONE + "steps = 40"))
    assert "with an image that cannot be read" in refused
