"""In every state of the page: nothing leaves its container, and axe-core finds no violation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.serving import served
from tests.fakes.model import Gate, held_after
from tests.service.conftest import factory
from tests.web.browser import DESKTOP, PHONE, Keys, Page
from tests.web.conftest import Draw, Visit
from tests.web.layout import leaving, violations

pytestmark = pytest.mark.browser

SIZES = (DESKTOP, (820, 1180), PHONE, (320, 640))
LONG = "a-very-long-name-without-any-break-in-it" * 3


def look(page: Page) -> None:
    """Looks at the page as it is now, in all sizes, and in light and dark."""
    for size in SIZES:
        page.set_size(size)
        assert leaving(page.driver) == [], size
    for size, dark in ((PHONE, True), (DESKTOP, False)):
        page.set_size(size)
        page.set_dark(dark)
        assert violations(page.driver) == [], (size, dark)


@pytest.fixture
def held(visit: Visit, tmp_path: Path) -> Iterator[tuple[Page, Gate]]:
    """A page, and the gate at which its answers wait after two tokens."""
    gate, generator = held_after(2)
    with served(tmp_path / "data", factory(generator=generator)) as url:
        page = visit(url)
        page.until_visible("#welcome")
        try:
            yield page, gate
        finally:
            gate.opened.set()


def test_the_empty_library_and_what_failed(
    page: Page, draw: Draw, tmp_path: Path
) -> None:
    look(page)
    (tmp_path / f"{LONG}.png").write_text("no picture")
    page.add(draw("red.png", "red"), tmp_path / f"{LONG}.png")
    look(page)


def test_the_library_with_marks_filters_and_messages(page: Page, draw: Draw) -> None:
    page.add(draw(f"{LONG}.png", "red"), draw("blue.png", "blue"))
    page.add(draw("white.png", "white"))
    page.click("#upload-close")
    page.mark(f"{LONG}.png")
    page.click("#filter-box summary")
    look(page)
    page.type("#marked-tag-new", "t" * 64, Keys.ENTER)
    page.until_text("#notice", "Tagged")
    page.mark("blue.png", "white.png")
    page.click("#marked-delete")
    page.until_visible("#undo")
    look(page)
    page.search("y" * 200)
    look(page)


def test_an_answer_from_the_first_word_to_the_last(
    held: tuple[Page, Gate], draw: Draw
) -> None:
    page, gate = held
    page.add(*(draw(f"{colour}.png", colour) for colour in ("red", "blue", "green")))
    page.type("#asking-library textarea", f"count {'x' * 300}", Keys.ENTER)
    page.until(lambda: page.texts(".answer.busy .said") not in ([], [""]))
    look(page)
    gate.opened.set()
    page.until(lambda: page.all(".answer:not(.busy)"))
    look(page)


def test_the_opened_picture(page: Page, draw: Draw) -> None:
    page.add(draw(f"{LONG}.png", "red", (90, 30)))
    page.open(f"{LONG}.png")
    look(page)
    page.type("#tag-new", "t" * 64, Keys.ENTER)
    page.until(lambda: page.all("#tags li"))
    page.click("#kept summary")
    page.until(lambda: page.all(".bar"))
    page.ask(f"What? {'x' * 300}", "#asking-picture")
    look(page)


def test_dialogs(visit: Visit, tmp_path: Path) -> None:
    with served(tmp_path / "data", api_key="open sesame") as url:
        page = visit(url)
        page.until_visible("#key")
        page.type("#key-value", "wrong key", Keys.ENTER)
        page.until_visible("#key-refused")
        look(page)
        page.type("#key-value", "open sesame", Keys.ENTER)
        page.until_visible("#welcome")
        page.set_size(PHONE)
        rows = [page.one(place).rect["y"] for place in ("h1", ".add", ".search")]
        assert rows[1] < rows[0] + page.one("h1").rect["height"] < rows[2]
        page.select("#collection", "Other…")
        page.until_visible("#collection-dialog")
        look(page)
        page.driver.execute_script("sessionStorage.clear()")


def test_a_service_that_is_away(visit: Visit, tmp_path: Path, draw: Draw) -> None:
    with served(tmp_path / "data") as url:
        page = visit(url)
        page.add(draw("red.png", "red"))
        page.open("red.png")
    page.type("#asking-picture textarea", "What?", Keys.ENTER)
    page.until_visible("#state")
    look(page)
