"""One browser for all tests of the page, a service for each, and pictures to send it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.serving import served
from tests.service.conftest import picture
from tests.web.browser import DESKTOP, Page, browser

Draw = Callable[..., Path]
Visit = Callable[[str], Page]

# Of severe entries in the browser's log: a problem of the service is a failed load, and the browser
# does not ask whether to leave a page that a program reloads.
NO_MISTAKES = ("network", "intervention")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def visit(driver: Any) -> Iterator[Visit]:
    """Opens the page of a service. The page must not have made any mistake in the end."""

    def visit(url: str) -> Page:
        page = Page(driver, url)
        page.set_size(DESKTOP)
        page.set_dark(False)
        page.go()
        return page

    yield visit
    entries = driver.get_log("browser")
    driver.get("about:blank")
    severe = [entry for entry in entries if entry["level"] == "SEVERE"]
    assert [entry for entry in severe if entry["source"] not in NO_MISTAKES] == []


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path / "data") as address:
        yield address


@pytest.fixture
def page(visit: Visit, url: str) -> Page:
    """The page of an empty library."""
    page = visit(url)
    page.until_visible("#welcome")
    return page


@pytest.fixture
def service(url: str) -> Iterator[httpx.Client]:
    """A client of the page's service."""
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Writes a picture of one colour and returns its path."""

    def draw(name: str, colour: str, size: tuple[int, int] = (40, 30)) -> Path:
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(colour, size))
        return path

    return draw
