"""The service against its own description: Schemathesis sends what the OpenAPI document allows and
what it does not, follows its links, and checks each answer. Run by `make test-contract`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from precis_client import Precis
from precis_client.uploads import PictureUpload
from tests.clients.serving import served
from tests.service.conftest import picture

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(
        find_spec("schemathesis") is None,
        reason="requirements-contract.txt is not installed",
    ),
]
CONFIG = Path(__file__).with_name("schemathesis.toml")
KEY = "correct horse battery"
# Of each operation; more find more.
CASES = os.environ.get("CONTRACT_CASES", "50")


def test_the_service_answers_as_its_description_says(tmp_path: Path) -> None:
    """No server error, no answer that is not described, nothing without the key."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "red.png").write_bytes(picture("red"))
    data_dir = tmp_path / "data"
    with served(data_dir, api_key=KEY, keep="original", import_dir=pictures) as url:
        # What the links lead to; some of it is deleted on the way.
        with Precis(url, api_key=KEY) as precis:
            for number in range(20):
                data = picture("red", (40, 30 + number))
                precis.add(PictureUpload(f"{number}.png", data))
        options = (
            ("--checks", "all"),
            ("--max-examples", CASES),
            ("--header", f"Authorization: Bearer {KEY}"),
            ("--continue-on-failure",),
            ("--no-color",),
        )
        words = [word for option in options for word in option]
        run = ("--config-file", str(CONFIG), "run", f"{url}/openapi.json")
        ran = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *run, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr
