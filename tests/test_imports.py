"""The direction of the house: who may import whom, and who may read the environment. Reads sources,
runs nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"compressor", "index", "service", "clients", "tests", "bench"}
MODEL_LIBRARIES = {"torch", "transformers", "peft", "accelerate"}
WEB_LIBRARIES = {"fastapi", "starlette", "uvicorn"}
FORBIDDEN = {
    "compressor": {"faiss", "lance"} | WEB_LIBRARIES | OURS - {"compressor"},
    "index": MODEL_LIBRARIES | WEB_LIBRARIES | OURS - {"index"},
    "service": MODEL_LIBRARIES | {"faiss", "lance"} | OURS - {"service", "index", "compressor"},
    "clients": MODEL_LIBRARIES | WEB_LIBRARIES | {"faiss", "lance"} | OURS - {"clients"},
}
# The one command line has the client's commands beside the service's.
ALLOWED = {("service/cli.py", "clients")}
USE_CASES = ("use_cases", "worker", "runtime.py", "metrics.py", "model_wrappers.py")


def sources(package: str) -> list[Path]:
    root = ROOT / package
    return [root] if root.is_file() else sorted(root.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_run_one_way(package: str) -> None:
    assert sources(package)
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources(package)
        for module in imported(path)
        if (top := module.split(".")[0]) in FORBIDDEN[package]
        and (str(path.relative_to(ROOT)), top) not in ALLOWED
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["fwd2bot", "training", "evaluation"])
def test_the_method_never_imports_the_default_model(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources(f"compressor/{package}")
        for module in imported(path)
        if module.startswith("compressor.default_model")
    ]
    assert wrong == []


def test_use_cases_know_nothing_of_http() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for name in USE_CASES
        for path in sources(f"service/{name}")
        for module in imported(path)
        if module.split(".")[0] in WEB_LIBRARIES
    ]
    assert wrong == []


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for package in FORBIDDEN
        for path in sources(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
        or (isinstance(node, ast.alias) and node.name in ("environ", "getenv"))
    }
    assert readers <= {"service/settings.py"}


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for package in FORBIDDEN
        for path in sources(package)
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
