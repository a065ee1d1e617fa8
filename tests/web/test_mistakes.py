"""What a person is told when something is wrong: the key, the words, the service itself."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from index.calibration import write_calibration
from service.api_keys import ApiKeys
from service.models import Models
from tests.clients.serving import served
from tests.fakes.model import (
    InterruptedGenerator,
    fake_models,
    held_after,
    made_up_calibration,
)
from tests.service.conftest import factory
from tests.web.browser import Keys, Page
from tests.web.conftest import Draw, Visit
from tests.web.line import Line

pytestmark = pytest.mark.browser


def test_the_key_is_asked_for_until_it_is_right(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    with served(tmp_path / "data", api_key="open sesame") as url:
        page = visit(url)
        page.until_visible("#key")
        assert not page.is_visible("#key-refused")
        page.type("#key-value", "wrong key", Keys.ENTER)
        page.until_visible("#key-refused")
        page.type("#key-value", "open sesame", Keys.ENTER)
        page.until_visible("#welcome")
        page.add(draw("red.png", "red"))
        page.until(lambda: page.one(".card img").get_property("naturalWidth"))
        assert page.ask("What?") == "I see red."
        page.driver.refresh()
        page.until_names("red.png")
        assert not page.is_visible("#key")
        page.driver.execute_script("sessionStorage.clear()")


def test_a_key_that_may_only_read(visit: Visit, tmp_path: Path, draw: Draw) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    keys = ApiKeys(data_dir)
    _, reader = keys.create("reader", "read")
    _, writer = keys.create("writer", "write")
    keys.close()
    with served(data_dir) as url:
        page = visit(url)
        page.until_visible("#key")
        page.type("#key-value", reader, Keys.ENTER)
        page.until_visible("#welcome")
        page.add(draw("red.png", "red"))
        assert "needs a key with scope write" in page.text("#upload-failures")
        assert "The button “Key” takes another" in page.text("#upload-failures")
        page.click("#key-change")
        page.click("#key-cancel")
        page.until_hidden("#key")
        assert page.is_visible("#upload-failures")
        page.click("#key-change")
        page.until_text("#key-title", "Use another key")
        page.type("#key-value", writer, Keys.ENTER)
        page.until_hidden("#uploads")
        page.until_visible("#welcome")
        page.add(draw("red.png", "red"))
        page.until_names("red.png")
        page.driver.execute_script("sessionStorage.clear()")


def test_a_key_that_may_only_read_deletes_nothing(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    data_dir = tmp_path / "data"
    with served(data_dir) as url:
        page = visit(url)
        page.add(draw("red.png", "red"), draw("blue.png", "blue"))
        keys = ApiKeys(data_dir)
        _, reader = keys.create("reader", "read")
        keys.close()
        page.mark("red.png", "blue.png")
        page.click("#marked-delete")
        page.click("#undo-close")
        page.until_visible("#key")
        page.type("#key-value", reader, Keys.ENTER)
        page.until_text("#notice", "2 pictures were not deleted. This needs a key with")
        page.until(lambda: sorted(page.names()) == ["blue.png", "red.png"])
        page.driver.execute_script("sessionStorage.clear()")


def test_a_key_that_is_revoked_while_the_page_is_open(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    keys = ApiKeys(data_dir)
    first, text = keys.create("first", "write")
    _, other_text = keys.create("second", "write")
    with served(data_dir) as url:
        page = visit(url)
        page.until_visible("#key")
        page.type("#key-value", text, Keys.ENTER)
        page.until_visible("#welcome")
        page.add(draw("red.png", "red"))
        page.open("red.png")
        keys.revoke(first.id)
        keys.close()
        page.type("#asking-picture textarea", "What?", Keys.ENTER)
        page.until_text("#key-refused", "it is wrong, or was revoked")
        page.press(Keys.ESCAPE)
        page.type("#key-value", other_text, Keys.ENTER)
        # What was begun goes on with the other key.
        page.until_text("#asking-picture .answer:not(.busy) .said", "I see red.")
        page.driver.execute_script("sessionStorage.clear()")


def test_a_key_for_one_collection(visit: Visit, tmp_path: Path, draw: Draw) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    keys = ApiKeys(data_dir)
    _, admin = keys.create("admin", "admin")
    _, guest = keys.create("guest", "write", ["trips"])
    keys.close()
    with served(data_dir) as url:
        headers = {"Authorization": f"Bearer {admin}"}
        httpx.put(f"{url}/collections/trips", headers=headers).raise_for_status()
        page = visit(url)
        page.until_visible("#key")
        page.type("#key-value", guest, Keys.ENTER)
        page.until_text("#notice", "The key is for these collections alone: trips")
        page.select("#collection", "Other…")
        page.until_visible("#collection-dialog")
        page.type("#collection-name", "trips")
        page.click("#collection-open")
        page.until_visible("#welcome")
        page.add(draw("red.png", "red"))
        page.until_names("red.png")
        page.driver.execute_script("sessionStorage.clear()")


def test_results_end_where_they_are_no_longer_likely(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(made_up_calibration(), path)
    with served(tmp_path / "data", calibration=path) as url:
        page = visit(url)
        page.add(draw("red.png", "red"), draw("blue.png", "blue"))
        page.search("a red one")
        page.until_names("red.png")
        assert page.text("#results-note") == "1 picture"
        page.click("#more")
        page.until_names("red.png", "blue.png")
        assert page.texts(".group h3") == ["Less likely"]
        page.search("red black black something")
        page.until_text("#results-note", "No sure match. 1 possible match.")
        page.until_names("red.png")
        page.search("xyzzy")
        page.until_text(
            "#results-note", "No sure match. These are the closest, best first."
        )
        page.until(lambda: len(page.names()) == 2)


def test_an_empty_library_is_searched_and_asked(page: Page) -> None:
    assert page.ask("What?") == ""
    assert "add images first" in page.text(".answer.failed .note")
    page.search("anything")
    page.until_text("#results-note", "Nothing found. Try other words")
    page.click("#leave-search")
    page.until_visible("#welcome")


def test_a_collection_that_is_not_there(page: Page) -> None:
    page.go("?collection=nowhere")
    page.until_text("#notice", "There is no collection 'nowhere'. Choose another")
    page.select("#collection", "Library")
    page.until_visible("#welcome")
    assert not page.is_visible("#notice")


def test_the_page_waits_while_the_model_is_loaded(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    loaded = threading.Event()

    def slow_models(settings: Any) -> Models:
        assert loaded.wait(120)
        return fake_models(settings)

    with served(tmp_path / "data", slow_models, ready=False) as url:
        try:
            page = visit(url)
            page.until_text("#state", "Starting…")
            assert not page.is_visible("#welcome")
        finally:
            loaded.set()
        page.until_visible("#welcome")
        assert not page.is_visible("#state")


def test_the_service_goes_away_and_comes_back(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    with served(tmp_path / "data") as url:
        page = visit(url)
        page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    page.choose("#photos", draw("green.png", "green"))
    page.until_text("#state", "The service is not responding.")
    page.until_text("#upload-state", "Adding: 0 of 1")
    page.type("#query", "something blue", Keys.ENTER)
    port = int(url.rsplit(":", 1)[1])
    with served(tmp_path / "data", port=port):
        page.until_added()
        page.until(lambda: page.names()[:1] == ["blue.png"])
        page.until_hidden("#state")
        page.until(lambda: not page.all(".card.bare"))
        assert page.ask("Where is the green one")


def test_an_answer_that_breaks_off_can_be_asked_for_again(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    works = threading.Event()

    def break_after_two(piece: Any) -> None:
        if piece.completion_tokens > 1 and not works.is_set():
            raise RuntimeError("the second pass broke")

    generator = InterruptedGenerator(break_after_two)
    with served(tmp_path / "data", factory(generator=generator)) as url:
        page = visit(url)
        page.add(draw("red.png", "red"))
        page.mark("red.png")
        assert page.ask("What?") == "I see"
        assert page.text(".answer.failed .note")
        works.set()
        page.click(".answer.failed button:not(.remove)")
        page.until_text(".answer:not(.busy):not(.failed) .said", "I see red.")


def test_the_connection_breaks_in_the_middle_of_an_answer(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    gate, generator = held_after(2)
    models = factory(generator=generator)
    with served(tmp_path / "data", models) as url, closing(Line(url)) as line:
        page = visit(line.url)
        page.add(draw("red.png", "red"))
        page.mark("red.png")
        page.type("#asking-library textarea", "count", Keys.ENTER)
        page.until(lambda: page.texts(".answer.busy .said") not in ([], [""]))
        line.cut()
        page.until_text(".answer.failed .note", "before the answer was complete")
        gate.opened.set()
        page.click(".answer.failed button:not(.remove)")
        page.until_text(".answer:not(.busy):not(.failed) .said", "1 2 3")


def test_a_reload_in_the_middle_of_an_answer(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    gate, generator = held_after(2)
    with served(tmp_path / "data", factory(generator=generator)) as url:
        page = visit(url)
        page.add(draw("red.png", "red"))
        page.open("red.png")
        page.type("#asking-picture textarea", "count", Keys.ENTER)
        page.until(lambda: page.texts("#viewer .answer.busy .said") not in ([], [""]))
        page.driver.refresh()
        page.until_text("#notice", "The answer was interrupted.")
        page.until_text("#viewer-title", "red.png")
        box = page.one("#asking-picture textarea")
        assert box.get_property("value") == "count"
        gate.opened.set()
        box.send_keys(Keys.ENTER)
        page.until_text("#viewer .answer:not(.busy) .said", "1 2 3")
        page.driver.refresh()
        page.until_text("#viewer-title", "red.png")
        assert not page.is_visible("#notice")


def test_an_answer_that_is_cut_off_says_so(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"))
    page.mark("red.png")
    assert page.ask("count").startswith("1 2 3")
    assert "Cut off after 64 tokens, the longest answer." in page.text(".answer")


def test_more_pictures_than_a_question_can_be_about(page: Page, draw: Draw) -> None:
    names = [f"{number}.png" for number in range(9)]
    page.add(*(draw(name, "red", (8 + number, 8)) for number, name in enumerate(names)))
    page.mark(*names)
    page.ask("What?")
    assert "about 8 images at most, not 9" in page.text(".answer.failed .note")
