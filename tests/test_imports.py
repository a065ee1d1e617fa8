"""The direction of imports, and who may read the environment. Reads sources, runs nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"compressor", "index", "service", "precis_client", "tests", "bench"}
FOLDERS = {
    "precis_client": "clients/python/precis_client"
}  # where not of the same name
MODEL_LIBRARIES = {"torch", "transformers", "peft", "accelerate"}
WEB_LIBRARIES = {"fastapi", "starlette", "uvicorn"}
FORBIDDEN = {
    "compressor": {"faiss", "lance"} | WEB_LIBRARIES | OURS - {"compressor"},
    "index": MODEL_LIBRARIES | WEB_LIBRARIES | OURS - {"index"},
    "service": MODEL_LIBRARIES
    | {"faiss", "lance"}
    | OURS - {"service", "index", "compressor"},
    "precis_client": MODEL_LIBRARIES
    | WEB_LIBRARIES
    | {"faiss", "lance"}
    | OURS - {"precis_client"},
}
# The service adds its commands to the client's command line, and its own Model Context Protocol
# server is a client of its HTTP interface.
ALLOWED = {
    ("service/cli.py", "precis_client"),
    ("service/mcp_mount.py", "precis_client"),
}
WITHOUT_HTTP = ("use_cases", "worker", "runtime.py", "metrics.py", "model_wrappers.py")
# The paper's own code is generic: a model plugs into it, not the other way round.
WITHOUT_DEFAULT_MODEL = (
    "compressor/fwd2bot",
    "compressor/training",
    "compressor/evaluation",
    "compressor/study",
)
DEFAULT_MODEL = "compressor.default_model"
HTTP_WORDS = {"http", "url", "response", "route", "endpoint", "upload"}


def sources(package: str) -> list[Path]:
    root = ROOT / FOLDERS.get(package, package)
    return [root] if root.is_file() else sorted(root.rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> Iterator[str]:
    """The names of all modules that a file imports, and of what it imports from them."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def importers(package: str, module: str) -> set[str]:
    """The files of a package that import the module, or anything inside it."""
    return {
        named(path)
        for path in sources(package)
        if any(f"{name}.".startswith(f"{module}.") for name in imported(path))
    }


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_run_one_way(package: str) -> None:
    assert sources(package)
    wrong = set()
    for module in FORBIDDEN[package]:
        wrong |= {(path, module) for path in importers(package, module)}
    assert wrong <= ALLOWED


@pytest.mark.parametrize("package", WITHOUT_DEFAULT_MODEL)
def test_generic_code_never_imports_the_default_model(package: str) -> None:
    assert sources(package)
    assert importers(package, DEFAULT_MODEL) == set()


def test_the_service_imports_the_default_model_in_one_place() -> None:
    assert importers("service", DEFAULT_MODEL) == {"service/models.py"}


def test_the_index_never_speaks_of_http() -> None:
    """Its names are those of storage and search; HTTP's begin in the service."""
    wrong = []
    for path in sources("index"):
        for node in ast.walk(parsed(path)):
            name = getattr(node, "id", None) or getattr(node, "name", None)
            if HTTP_WORDS.intersection(str(name).lower().split("_")):
                wrong.append(f"{named(path)}: {name}")
    assert wrong == []


@pytest.mark.parametrize("part", WITHOUT_HTTP)
def test_use_cases_never_import_a_web_library(part: str) -> None:
    assert sources(f"service/{part}")
    for library in WEB_LIBRARIES:
        assert importers(f"service/{part}", library) == set()


def reads_environment(path: Path) -> bool:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute) and node.attr in (
            "environ",
            "getenv",
            "environb",
        ):
            return True
        if isinstance(node, ast.alias) and node.name in ("environ", "getenv"):
            return True
    return False


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        named(path)
        for package in FORBIDDEN
        for path in sources(package)
        if reads_environment(path)
    }
    client_settings = f"{FOLDERS['precis_client']}/environment.py"
    assert readers <= {"service/settings.py", client_settings}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_every_module_says_what_it_is(package: str) -> None:
    modules = [path for path in sources(package) if path.name != "__init__.py"]
    silent = [named(path) for path in modules if not ast.get_docstring(parsed(path))]
    assert silent == []
