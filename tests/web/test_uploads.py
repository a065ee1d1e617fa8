"""Adding pictures: folders, wrong files, pause, cancel, retry."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.serving import served
from tests.fakes.model import Gate, InterruptedModel
from tests.service.conftest import factory
from tests.web.browser import Page
from tests.web.conftest import Draw, Visit
from tests.web.layout import leaving

pytestmark = pytest.mark.browser

COLOURS = ("red", "green", "blue", "yellow", "black", "white")
AT_ONCE = 4  # uploads that the page sends at the same time
MANY, WRONG = 500, 40


def draw_all(draw: Draw) -> list[Path]:
    """A picture of each colour."""
    return [draw(f"{colour}.png", colour) for colour in COLOURS]


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def held(visit: Visit, tmp_path: Path, gate: Gate) -> Iterator[Page]:
    """The page of a service whose first pass waits at the gate."""
    model = InterruptedModel(lambda _: gate.pass_through())
    gate.opened.set()  # for the first pass before the service is ready
    with served(tmp_path / "data", factory(model)) as url:
        page = visit(url)
        page.until_visible("#welcome")
        gate.opened.clear()
        try:
            yield page
        finally:
            gate.opened.set()


def test_a_dropped_folder_is_read_to_its_depths(page: Page, draw: Draw) -> None:
    top = draw("album/red.png", "red")
    draw("album/deep/down/blue.png", "blue")
    draw("album/.hidden.png", "green")
    (top.parent / "notes.txt").write_text("no picture")
    page.drop(top.parent)
    page.until_added()
    assert page.text("#upload-state") == ("Added 2 pictures, 2 other files skipped")
    assert sorted(page.names()) == ["blue.png", "red.png"]


def test_a_chosen_folder(page: Page, draw: Draw) -> None:
    draw("album/red.png", "red")
    blue = draw("album/deep/blue.png", "blue")
    page.choose("#folder", blue.parent.parent)
    page.until_added()
    assert sorted(page.names()) == ["blue.png", "red.png"]


def test_a_picture_on_the_search_bar_is_searched_with(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    box = page.one("#query").rect
    at = (int(box["x"] + box["width"] / 2), int(box["y"] + box["height"] / 2))
    page.drop(draw("sky.png", "blue", (9, 9)), at=at)
    page.until_text("#results-title", "Like sky.png")
    page.until_names("blue.png", "red.png")


def test_a_file_that_is_no_picture_fails_alone(
    page: Page, draw: Draw, tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    page.add(draw("red.png", "red"), tmp_path / "notes.png", tmp_path / "empty.png")
    assert page.text("#upload-state") == "Added 1 picture, 2 failed"
    reasons = sorted(page.texts("#upload-failures li"))
    assert reasons[0].startswith("empty.png: ")
    assert reasons[1].startswith("notes.png: The file is not an image")
    assert not page.is_visible("#upload-retry")  # another try would not help
    assert page.names() == ["red.png"]

    page.add(draw("again.png", "red"))
    assert page.text("#upload-state") == "Added no pictures, 1 already in the library"
    page.click("#upload-close")
    page.until_hidden("#uploads")


def test_files_of_another_kind_are_skipped_and_counted(
    page: Page, draw: Draw, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    page.drop(tmp_path / "notes.txt")
    page.until_added()
    assert page.text("#upload-state") == "Added no pictures, 1 other file skipped"
    page.choose("#photos", draw("red.png", "red"), tmp_path / "notes.txt")
    page.until_text("#upload-state", "Added 1 picture, 1 other file skipped")
    assert page.names() == ["red.png"]


def test_pause_and_go_on(held: Page, gate: Gate, draw: Draw) -> None:
    held.choose("#photos", *draw_all(draw))
    held.until_text("#upload-state", f"Adding: 0 of {len(COLOURS)}")
    held.click("#upload-pause")
    gate.opened.set()
    held.until_text("#upload-state", f"Paused: {AT_ONCE} of {len(COLOURS)}")
    held.until(lambda: len(held.names()) == AT_ONCE)
    held.click("#upload-pause")
    held.until_added()
    assert len(held.names()) == len(COLOURS)


def test_cancel(held: Page, gate: Gate, draw: Draw) -> None:
    held.choose("#photos", *draw_all(draw))
    held.until_text("#upload-state", "Adding: 0 of 6")
    held.click("#upload-cancel")
    held.until_text("#upload-state", "Added no pictures, 6 cancelled")
    gate.opened.set()
    # The page still works.
    held.add(draw("pink.png", "pink"))
    assert "pink.png" in held.names()


def test_what_failed_can_be_tried_again(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    works = threading.Event()
    works.set()

    def fail(_: object) -> None:
        if not works.is_set():
            raise RuntimeError("the first pass broke")

    with served(tmp_path / "data", factory(InterruptedModel(fail))) as url:
        page = visit(url)
        page.until_visible("#welcome")
        works.clear()
        page.add(*draw_all(draw))
        assert page.text("#upload-state") == "Added no pictures, 6 failed"
        works.set()
        page.click("#upload-retry")
        page.until_text("#upload-state", "Added 6 pictures")
        assert not page.is_visible("#upload-failures")
        assert len(page.names()) == len(COLOURS)


def test_a_reload_in_the_middle(held: Page, gate: Gate, draw: Draw) -> None:
    held.choose("#photos", *draw_all(draw))
    held.until_text("#upload-state", "Adding: 0 of 6")
    held.driver.refresh()
    held.until_text("#notice", "The upload was interrupted after 0 of 6 files.")
    gate.opened.set()
    held.add(*draw_all(draw))
    held.until(lambda: len(held.names()) == len(COLOURS))


def test_five_hundred_files_at_once(
    page: Page, draw: Draw, service: httpx.Client
) -> None:
    paths = [
        draw(f"many/{number}.png", COLOURS[number % 6], (8 + number, 8))
        for number in range(MANY)
    ]
    for number in range(0, WRONG, 2):
        paths.append(paths[0].with_name(f"broken-{number}.png"))
        paths.append(paths[0].with_name(f"notes-{number}.txt"))
    for path in paths[MANY:]:
        path.write_text("no picture")
    page.drop(*paths)
    page.until_added(limit_s=600)
    half = WRONG // 2
    expected = f"Added {MANY} pictures, {half} failed, {half} other files skipped"
    assert page.text("#upload-state") == expected
    (line,) = page.texts("#upload-failures li")
    assert line.count("broken-") == half
    assert ": The file is not an image" in line
    assert leaving(page.driver) == []
    assert len(page.names()) == MANY
    page.driver.refresh()
    page.until(page.names)
    # The rest of the list comes as one scrolls.
    bottom = "window.scrollTo(0, document.body.scrollHeight)"

    def reached_the_end() -> bool:
        page.driver.execute_script(bottom)
        return len(page.names()) == MANY

    page.until(reached_the_end, limit_s=300)
    assert not page.is_visible("#more")
