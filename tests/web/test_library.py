"""Tags, filters, collections, the samples of an empty library, and what is kept of a picture."""

from __future__ import annotations

import httpx
import pytest

from tests.service.conftest import listed, record
from tests.web.browser import Keys, Page
from tests.web.conftest import Draw

pytestmark = pytest.mark.browser


def test_tags_are_added_removed_and_filtered_by(
    page: Page, draw: Draw, service: httpx.Client
) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    page.open("red.png")
    for tag in ("warm", "first"):
        page.type("#tag-new", tag, Keys.ENTER)
        page.until_text("#tags", tag)
    page.click("#tags li:last-child button")
    page.until(lambda: page.texts("#tags a") == ["warm"])
    page.click("#tags a")
    page.until_names("red.png")
    assert page.query == "?tag=warm"
    (image,) = listed(service, tag="warm")
    assert image["metadata"]["tags"] == ["warm"]
    assert image["metadata"]["filename"] == "red.png"

    page.type("#filter-tags", "warm, cold", Keys.TAB)
    page.until_text("#results-note", "No pictures match these filters.")
    assert page.query == "?tag=warm&tag=cold"
    page.click("#filter-clear")
    page.until(lambda: len(page.names()) == 2)


def test_marked_pictures_get_a_tag_together(
    page: Page, draw: Draw, service: httpx.Client
) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    page.mark("red.png", "blue.png")
    page.type("#marked-tag-new", "both", Keys.ENTER)
    page.until_text("#notice", "Tagged 2 pictures “both”.")
    assert len(listed(service, tag="both")) == 2


def test_the_library_by_the_date_taken(
    page: Page, draw: Draw, service: httpx.Client
) -> None:
    page.add(draw("undated.png", "white"))
    for name, colour, taken_at in (
        ("may.png", "red", "2024-05-31T23:59:00"),
        ("june.png", "blue", "2024-06-01T00:00:00"),
    ):
        path = draw(name, colour)
        metadata = f'{{"filename": "{name}", "exif": {{"taken_at": "{taken_at}"}}}}'
        files = {"file": (name, path.read_bytes())}
        assert service.post("/images", files=files, data={"metadata": metadata})
    page.go("?order=taken")
    page.until_names("june.png", "may.png")
    assert page.texts(".group h3") == ["June 2024", "May 2024"]
    assert "Only pictures that say when" in page.text("#results-note")
    page.go("?order=taken&from=2024-05-01&to=2024-05-31")
    page.until_names("may.png")


def test_the_library_by_the_date_taken_where_no_picture_has_one(
    page: Page, draw: Draw
) -> None:
    page.add(draw("red.png", "red"))
    page.go("?order=taken")
    page.until_text("#results-note", "No picture here says when it was taken.")


def test_collections_are_libraries_of_their_own(
    page: Page, draw: Draw, service: httpx.Client
) -> None:
    page.add(draw("red.png", "red"))
    page.select("#collection", "Other…")
    page.until_visible("#collection-dialog")
    page.type("#collection-name", "trips", Keys.ENTER)
    page.until_text("#results-title", "trips")
    page.until_visible("#welcome")
    page.add(draw("blue.png", "blue"))
    page.until(lambda: page.one(".card img").get_property("naturalWidth"))
    page.open("blue.png")
    assert page.ask("What?", "#asking-picture") == "I see blue."
    page.press(Keys.ESCAPE)
    page.until_hidden("#viewer")
    assert len(listed(service, collection="trips")) == 1
    page.select("#collection", "Library")
    page.until_names("red.png")
    assert page.query == ""

    page.select("#collection", "Other…")
    page.until_visible("#collection-dialog")
    page.type("#collection-name", "trips", Keys.ENTER)
    page.until_text("#collection-problem", "trips")
    page.click("#collection-open")
    page.until_names("blue.png")


def test_an_empty_library_offers_samples(page: Page, service: httpx.Client) -> None:
    assert not page.is_visible("#filter-box")
    page.click("#samples-add")
    page.until_text("#upload-state", "Added 3 pictures")
    assert sorted(page.names()) == ["cat.jpg", "coffee.jpg", "rocket.jpg"]
    assert len(listed(service)) == 3
    assert page.is_visible("#filter-box")
    page.click("#asking-library .suggestions button")
    page.until(lambda: page.texts(".answer:not(.busy) .said"))


def test_the_words_of_the_tokens_are_told_once(page: Page) -> None:
    tokens = [[" cat", "cat", " dog"], [" tabby", " red"], ["cat", " ab"], [" tabby"]]
    words = [[{"text": text, "weight": 0.5} for text in token] for token in tokens]
    said = page.driver.execute_async_script(
        """
        const [words, done] = arguments;
        import("/web/words.js").then(({ inWords }) => done(inWords(words)));
        """,
        words,
    )
    assert said.startswith("cat · tabby or red")


def test_what_is_kept_is_told(page: Page, draw: Draw, service: httpx.Client) -> None:
    path = draw("red.png", "red")
    page.add(path)
    page.open("red.png")
    page.click("#kept summary")
    page.until(lambda: len(page.all("#kept .bar")) == 3)
    (image,) = listed(service)
    bars = page.texts("#kept li")
    assert f"Original file, to compare: {path.stat().st_size} B" in bars
    assert f"Summary tokens: {image['tokens']['bytes']} B" in bars
    widths = [bar.size["width"] for bar in page.all("#kept .bar")]
    assert all(0 < width <= page.one("#kept-bars").size["width"] for width in widths)
    assert "4 tokens of 16 numbers" in page.text("#kept-facts")
    assert record(service, image["id"])["model"] in page.text("#kept-facts")
