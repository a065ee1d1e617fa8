"""The command lines of docs/training.md, run as processes on a model small enough for a test."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bench.serving import serving
from tests.compressor.training.test_cli import RECIPE, researchers_folder

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "training.md"
MODEL = "~/models/llava-1.5-7b-hf"
# What stands in the page, and in its place here. The recipe's full size needs a GPU.
PLACES = {
    MODEL: "model",
    "llava_v1_5_mix665k.json": "data.json",
    "~/images": "images",
    "~/captions": "captions",
    "compressor/training/recipes/llava-1.5-7b.toml": "recipe.toml",
    "adapters/": "adapters",
    "runs/llava": "run",
}


def documented() -> list[list[str]]:
    """The command lines of the page's blocks that name this model, in order."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    text = "\n".join(block.replace("\\\n", "") for block in blocks)
    return [shlex.split(line) for line in text.splitlines() if MODEL in line]


def here(command: list[str], folder: Path) -> list[str]:
    """The command with this interpreter and the test's files."""
    programs = {
        "precis": ["-m", "service.cli"],
        "accelerate": ["-m", "accelerate.commands.launch"],
    }
    program, *arguments = command
    if program == "accelerate":
        assert arguments[0] == "launch"
        # Over a free port, since another test may launch processes too.
        arguments = ["--main_process_port", "0", *arguments[1:]]
    paths = [
        str(folder / PLACES[part]) if part in PLACES else part for part in arguments
    ]
    return [sys.executable, *programs[program], *paths]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        here(command, folder),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def write_recipe(folder: Path, steps: int) -> None:
    recipe = f"steps = {steps}\ncontrastive_batch_size = 4\ntoken_count = 4\n"
    (folder / "recipe.toml").write_text(
        RECIPE.replace("workers = 0", "workers = 1") + recipe
    )


def steps_of(folder: Path) -> list[int]:
    lines = (folder / "run" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return researchers_folder(tmp_path_factory.mktemp("documented"))


def test_the_page_names_the_commands_of_this_test() -> None:
    assert [command[0] for command in documented()] == [
        "precis",
        "precis",
        "accelerate",
    ]


def test_training_resuming_and_serving_as_documented(folder: Path) -> None:
    train, serve, launch = documented()
    write_recipe(folder, steps=2)
    trained = run(launch, folder)
    assert trained.returncode == 0, trained.stderr
    assert steps_of(folder) == [0, 1]
    write_recipe(folder, steps=3)
    resumed = run(launch, folder)
    assert resumed.returncode == 0, resumed.stderr
    assert steps_of(folder) == [0, 1, 2]

    # Two processes began the run: one alone is told so.
    alone = run(train, folder)
    assert alone.returncode == 1
    assert "written by 2 processes, this run has 1" in alone.stderr
    assert "Traceback" not in alone.stderr
    assert steps_of(folder) == [0, 1, 2]

    def served(data_dir: Path) -> list[str]:
        return [*here(serve, folder), "--port", "0", "--data-dir", str(data_dir)]

    with serving(folder / "service", served) as service:
        image = {
            "file": ("0.png", (folder / "images" / "0.png").read_bytes(), "image/png")
        }
        stored = httpx.post(f"{service.url}/images", files=image, timeout=60)
        assert stored.status_code == 201, stored.text
        hits = httpx.get(
            f"{service.url}/search", params={"q": "square number 0"}, timeout=60
        )
        assert len(hits.json()["results"]) == 1
