"""The TypeScript client, built from the kept OpenAPI document, against the service.

Needs Node and the package index: `make test-install`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.serving import served
from tests.service.conftest import picture

pytestmark = pytest.mark.install
ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "typescript"
LEFT_OUT = shutil.ignore_patterns("node_modules", "dist", "schema.ts")


def npm(*words: str, cwd: Path, **environment: str) -> str:
    ran = subprocess.run(
        ["npm", *words],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node and npm")
def test_it_builds_and_works(tmp_path: Path) -> None:
    folder = tmp_path / "clients" / "typescript"
    shutil.copytree(CLIENT, folder, ignore=LEFT_OUT)
    document = tmp_path / "tests" / "golden" / "openapi.json"
    document.parent.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "golden" / "openapi.json", document)
    npm("ci", "--no-audit", "--no-fund", cwd=folder)
    npm("run", "build", cwd=folder)
    red = tmp_path / "red.png"
    red.write_bytes(picture("red"))
    with served(tmp_path / "data") as url:
        printed = npm("test", cwd=folder, PRECIS_URL=url, PICTURE=str(red))
    assert "pass 4" in printed
    assert "fail 0" in printed
