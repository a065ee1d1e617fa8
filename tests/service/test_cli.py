"""The command line as a process: documented entries run, and no mistake exits with 0."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]
OUR_MODULE = re.compile(
    r"(?:-m|--module) ((?:service|compressor|index|precis_client)[\w.]*)"
)
BUILD_FILES = ["Makefile", "Dockerfile", "docker-compose.yml"]


def python_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m MODULE ARGUMENTS` in the repository's root."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )


def documented_modules() -> set[str]:
    """The modules of ours that a page or a build file runs with `-m`."""
    texts = [page.read_text() for page in PAGES]
    texts += [(ROOT / name).read_text() for name in BUILD_FILES]
    return {module for text in texts for module in OUR_MODULE.findall(text)}


@pytest.mark.parametrize("arguments", [(), ("train", "lvlm"), ("serve",)])
def test_the_module_that_accelerate_launches_shows_its_help(
    arguments: tuple[str, ...],
) -> None:
    shown = python_module("service.cli", *arguments, "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"Usage: {' '.join(['precis', *arguments])}")


@pytest.mark.parametrize("arguments", [("fly",), ("train", "lvlm")])
def test_a_command_that_cannot_run_exits_with_an_error(
    arguments: tuple[str, ...],
) -> None:
    refused = python_module("service.cli", *arguments)
    assert refused.returncode == 2
    assert "Usage: precis" in refused.stderr


def test_every_documented_module_runs() -> None:
    assert documented_modules() >= {"service.cli"}
    for module in sorted(documented_modules()):
        shown = python_module(module, "--help")
        assert shown.returncode == 0, f"{module}: {shown.stderr}"
        assert "Usage: " in shown.stdout, module


def test_a_device_that_is_not_there_ends_the_service_with_one_line(
    tmp_path: Path,
) -> None:
    options = [
        "--device",
        "cuda:99",
        "--port",
        "0",
        "--data-dir",
        str(tmp_path / "data"),
    ]
    model_dir = tmp_path / "model"
    model_dir.mkdir()
    ended = python_module(
        "service.cli", "serve", *options, "--model-dir", str(model_dir)
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    last_line = ended.stderr.splitlines()[-1]
    assert last_line.startswith("Error: The service could not start: cuda:99 ")
    # It ended before a model was built or loaded.
    assert list(model_dir.iterdir()) == []
