"""The benchmark of the page's first paint runs at its smallest size; none checks speed."""

from __future__ import annotations

import json

import pytest

from tests.test_bench import fake_service

pytestmark = pytest.mark.browser
pytest.importorskip("selenium", reason="requirements-browser.txt is not installed")

from bench import first_paint  # noqa: E402
from bench.chromium import BrowserMissing  # noqa: E402


def test_first_paint(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        first_paint.run(rounds=1, photographs=3, command=fake_service)
    except BrowserMissing as error:
        pytest.skip(str(error))
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(line["bars"]) == {"first_paint_ms"}
    figures = line["figures"]
    assert figures["first_paint_ms"] > 0
    assert figures["thumbnails_ms"] > 0
    # The browser asks again for page, scripts and styles, and is told that its copies are good.
    assert figures["page_bytes"] > figures["again_page_bytes"] > 0
