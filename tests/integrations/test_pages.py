"""The Python blocks of the pages about the frameworks, run in order over a real service."""

from __future__ import annotations

from typing import Any

import pytest

from precis_client import Precis
from tests.docs.blocks import blocks

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")
pytestmark = pytest.mark.integrations
PAGES = (
    "clients/langchain/README.md",
    "clients/llamaindex/README.md",
    "docs/how-to/frameworks.md",
)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(
    page: str,
    url: str,
    stored: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PRECIS_URL", url)
    names: dict[str, Any] = {}
    clients: list[Precis] = []
    for block in blocks(page):
        if block.language == "python":
            # The fake model knows colours.
            code = block.code.replace("a dog on the beach", "red")
            exec(compile(code, str(block), "exec"), names)
            clients.append(names["precis"])  # a later block may make another
    assert stored["red"] in capsys.readouterr().out
    for client in clients:
        client.close()
