"""The gallery, searches, the opened picture, and the address that tells of them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from bench.chromium import MOUSE
from tests.clients.serving import served
from tests.service.conftest import listed
from tests.web.browser import PHONE, Keys, Page, browser
from tests.web.conftest import Draw, Visit

pytestmark = pytest.mark.browser


def test_a_click_opens_a_picture_and_the_arrow_keys_its_neighbours(
    page: Page, draw: Draw
) -> None:
    page.add(draw("red.png", "red"))
    page.add(draw("blue.png", "blue"))
    page.add(draw("green.png", "green"))
    page.until_names("green.png", "blue.png", "red.png")
    page.open("green.png")
    assert not page.one("#viewer-previous").is_enabled()
    page.press(Keys.ARROW_RIGHT)
    page.until_text("#viewer-title", "blue.png")
    page.press(Keys.ARROW_RIGHT)
    page.until_text("#viewer-title", "red.png")
    page.until(lambda: not page.one("#viewer-next").is_enabled())
    page.click("#viewer-previous")
    page.until_text("#viewer-title", "blue.png")
    page.until(lambda: page.one("#viewer-picture").get_property("naturalWidth"))
    page.driver.back()  # one step back, however many pictures were looked at
    page.until_hidden("#viewer")
    assert page.query == ""


def test_marks_come_with_the_mouse(url: str, tmp_path: Path, draw: Draw) -> None:
    def are_seen() -> list[bool]:
        return [mark.is_displayed() for mark in page.all(".mark")]

    with browser(tmp_path / "profile", MOUSE) as driver:
        page = Page(driver, url)
        page.go()
        page.until_visible("#welcome")
        page.add(draw("red.png", "red"), draw("blue.png", "blue"))
        assert are_seen() == [False, False]
        page.mark("red.png")
        assert are_seen() == [True, True]


def test_an_original_that_is_kept_is_opened_in_its_size(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    with served(tmp_path / "data", keep="original") as url:
        page = visit(url)
        page.add(draw("red.png", "red", (700, 500)))
        page.open("red.png")
        page.until(
            lambda: page.one("#viewer-picture").get_property("naturalWidth") == 700
        )


def test_a_thumbnail_is_said_to_be_one(page: Page, draw: Draw) -> None:
    page.add(draw("large.png", "red", (700, 500)), draw("small.png", "blue"))
    page.open("large.png")
    page.until_text("#viewer-note", "Only a thumbnail is kept")
    page.press(Keys.ARROW_RIGHT if page.names()[0] == "large.png" else Keys.ARROW_LEFT)
    page.until_text("#viewer-title", "small.png")
    page.until(lambda: page.one("#viewer-picture").get_property("naturalWidth") == 40)
    assert "thumbnail" not in page.text("#viewer-note")
    # Nothing is asked for that is not there.
    log = page.driver.get_log("browser")
    assert [entry["message"] for entry in log if entry["level"] == "SEVERE"] == []


def test_the_viewer_is_not_behind_the_scrollbar_of_the_page(
    page: Page, draw: Draw
) -> None:
    page.set_size((1000, 400))
    page.add(*(draw(f"{n}.png", "red", (8 + n, 8)) for n in range(12)))
    root = page.one("html")
    assert root.get_property("scrollHeight") > root.get_property("clientHeight")
    page.open(page.names()[0])
    width = page.driver.execute_script("return innerWidth")
    assert (
        root.get_property("clientWidth") == width == page.one("#viewer").rect["width"]
    )


def test_without_pictures_names_are_shown(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    with served(tmp_path / "data", keep="none") as url:
        page = visit(url)
        page.add(draw("red.png", "red"))
        page.until(lambda: page.texts(".card") == ["red.png"])
        page.open("red.png")
        page.until_text("#viewer-missing", "No picture was kept")
        assert page.ask("What?", "#asking-picture") == "I see red."


def test_on_a_phone_a_swipe_leads_on_and_the_box_for_questions_follows(
    page: Page, draw: Draw
) -> None:
    page.add(draw("red.png", "red"))
    page.add(draw("blue.png", "blue"))
    page.set_size(PHONE)
    page.open("blue.png")
    page.swipe("#stage", -150)
    page.until_text("#viewer-title", "red.png")
    page.click("#kept summary")
    page.until(lambda: page.all(".bar"))
    box = page.one("#asking-picture form").rect
    assert box["y"] + box["height"] <= PHONE[1]
    for question in ("What?", "What colour?", "Why?", f"How? {'x' * 99}"):
        assert page.ask(question, "#asking-picture") == "I see red."
        box = page.one("#asking-picture form").rect
        assert box["y"] + box["height"] <= PHONE[1]
    page.swipe("#stage", 150)
    page.until_text("#viewer-title", "blue.png")


def test_cards_show_pictures_and_no_text(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    assert page.texts(".card") == ["", ""]
    assert len(page.texts(".group h3")) == 1  # the month


def test_search_and_picture_are_in_the_address(
    page: Page, draw: Draw, visit: Visit
) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    page.search("something blue")
    page.until(lambda: page.names()[:1] == ["blue.png"])
    assert page.query == "?q=something+blue"
    page.open("blue.png")
    address = page.query
    assert address.startswith("?q=something+blue&open=")

    page.driver.back()
    page.until_hidden("#viewer")
    assert page.query == "?q=something+blue"
    page.driver.back()
    page.until(lambda: page.text("#results-title") == "Library")
    page.driver.forward()
    page.until_text("#results-title", "something blue")

    page.go(address)
    page.until_text("#viewer-title", "blue.png")
    page.click("#viewer-close")
    page.until_hidden("#viewer")
    assert page.query == "?q=something+blue"
    page.driver.refresh()
    page.until_text("#results-title", "something blue")
    assert page.one("#query").get_property("value") == "something blue"


def test_an_address_of_a_picture_that_is_gone(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"))
    page.go("?open=0123456789abcdef0123456789abcdef")
    page.until_text("#notice", "There is no such picture in this library.")
    page.until_names("red.png")


def test_similar_pictures(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"), draw("red-too.png", "red", (9, 9)))
    page.open("red.png")
    page.click("#viewer-similar")
    page.until_names("red-too.png")
    assert page.text("#results-title") == "Similar pictures"
    assert "like=" in page.query
    page.driver.back()
    page.until_text("#viewer-title", "red.png")


def test_search_by_a_photo(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    page.choose("#query-photo", draw("sky.png", "blue", (9, 9)))
    page.until_names("blue.png", "red.png")
    assert page.text("#results-title") == "Like sky.png"
    page.driver.refresh()
    page.until_text("#notice", "Choose it again")
    page.click("#leave-search")
    page.until(lambda: len(page.names()) == 2)


def test_delete_can_be_undone_until_it_is_done(
    page: Page, draw: Draw, service: httpx.Client
) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    page.open("red.png")
    page.click("#viewer-delete")
    page.until_text("#undo", "Deleted red.png")
    page.until_text("#viewer-title", "blue.png")
    page.click("#viewer-close")
    page.until_names("blue.png")
    assert len(listed(service)) == 2
    page.click("#undo-button")
    page.until(lambda: sorted(page.names()) == ["blue.png", "red.png"])

    page.open("red.png")
    page.click("#viewer-delete")
    page.until_text("#viewer-title", "blue.png")
    page.click("#undo-button")
    page.until_text("#viewer-title", "red.png")
    page.press(Keys.ESCAPE)
    page.until_hidden("#viewer")

    page.mark("red.png", "blue.png")
    page.click("#marked-delete")
    page.until_text("#undo", "Deleted 2 pictures")
    page.until_names()
    page.click("#undo-close")
    page.until(lambda: listed(service) == [])
    page.until_visible("#welcome")


def test_leaving_the_page_completes_a_deletion(
    page: Page, draw: Draw, service: httpx.Client
) -> None:
    page.add(draw("red.png", "red"))
    page.mark("red.png")
    page.click("#marked-delete")
    page.until_visible("#undo")
    page.driver.get("about:blank")
    page.until(lambda: listed(service) == [])


def test_by_keyboard_alone(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    page.driver.execute_script("document.activeElement.blur()")
    page.press("/")
    page.press("red", Keys.ENTER)
    page.until_names("red.png", "blue.png")

    def focus_goes_to(selector: str) -> None:
        def reached() -> bool:
            if page.driver.switch_to.active_element == page.one(selector):
                return True
            page.press(Keys.TAB)
            return False

        page.until(reached)

    focus_goes_to(".card:first-child .open")
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ENTER)
    page.until_text("#viewer-title", "blue.png")
    focus_goes_to("#asking-picture textarea")
    page.press("What?", Keys.ENTER)
    page.until_text("#asking-picture .answer:not(.busy) .said", "I see blue.")
    page.press(Keys.ESCAPE)
    page.until_hidden("#viewer")
    focus_goes_to(".card:first-child input")
    page.press(Keys.SPACE)
    page.until_text("#asking-library .scope", "About red.png")


def test_what_people_write_is_shown_as_text(page: Page, draw: Draw) -> None:
    html = "<img src=x onerror=document.title='hacked'>"
    page.add(draw(f"{html}.png", "red"))
    page.open(f"{html}.png")
    page.press(Keys.ESCAPE)
    page.search(html)
    page.until(lambda: page.driver.title == f"“{html}” – Précis")
