"""The client installed from its wheel into an empty environment: its size, its types, its manners.

Needs the package index: `make test-install`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.serving import address_of_nobody, served
from tests.service.conftest import picture

pytestmark = pytest.mark.install
ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "python"
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
MOST_BYTES = 30_000_000
NAMESAKES = ("clients", "service", "index", "compressor")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What the command printed, without this environment's variables."""
    ran = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr or ran.stdout
    return ran.stdout


def pip(*words: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *map(str, words)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # From a copy, for a build leaves its files in the folder.
    source = tmp_path_factory.mktemp("source") / "python"
    shutil.copytree(
        CLIENT, source, ignore=shutil.ignore_patterns("build", "*.egg-info")
    )
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the client and what it needs, and without pip."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    pip("--python", python, "install", "--quiet", wheel)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's project, with folders named like ours."""
    for name in NAMESAKES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"WHOSE = 'theirs: {name}'\n")
    (tmp_path / "cat.jpg").write_bytes(picture("red", format="JPEG"))
    (tmp_path / "chelsea.png").write_bytes(picture("red"))
    return tmp_path


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def examples() -> str:
    pages = [ROOT / "README.md", CLIENT / "README.md"]
    codes = [code for page in pages for code in PYTHON.findall(page.read_text())]
    assert len(codes) >= len(pages)
    return "\n".join(codes)


def test_it_is_small(environment: Path) -> None:
    (packages,) = environment.glob("lib/python*/site-packages")
    own = size_bytes(packages / "precis_client")
    total = size_bytes(packages)
    assert own < 1_000_000
    assert total < MOST_BYTES
    assert not (packages / "torch").exists()


def test_the_documented_lines_pass_a_strict_type_check(
    environment: Path, project: Path
) -> None:
    (project / "example.py").write_text(examples())
    options = ["--strict", "--python-executable", environment / "bin" / "python"]
    checked = run(sys.executable, "-m", "mypy", *options, "example.py", cwd=project)
    assert checked.startswith("Success")


def test_it_works_beside_folders_of_the_same_names(
    environment: Path, project: Path
) -> None:
    code = f"import {', '.join(NAMESAKES)}\n"
    code += "".join(f"print({name}.WHOSE)\n" for name in NAMESAKES)
    (project / "program.py").write_text(code + examples())
    with served(project / "data") as url:
        code = (project / "program.py").read_text()
        (project / "program.py").write_text(code.replace("http://127.0.0.1:8000", url))
        printed = run(
            environment / "bin" / "python", "program.py", cwd=project, PRECIS_URL=url
        )
        command = environment / "bin" / "precis"
        search = ["search", "red", "--limit", "1", "--json"]
        hit = run(command, *search, cwd=project, PRECIS_URL=url)
    for name in NAMESAKES:
        assert f"theirs: {name}" in printed
    assert "I see red." in printed
    assert json.loads(hit)["score"] > 0.5


def test_its_command_stands_alone(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin" / "precis"
    assert "search" in run(command, "-h", cwd=tmp_path)
    for words, said in (
        (["serve"], "pip install precis-service"),
        (["mcp"], "pip install 'precis-client[mcp]'"),
        (["list", "--url", address_of_nobody()], "cannot be reached"),
    ):
        refused = subprocess.run(
            [command, *words], cwd=tmp_path, env={}, capture_output=True, text=True
        )
        assert refused.returncode != 0
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
