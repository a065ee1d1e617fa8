"""The whole story of the page: drop, search, open, ask, cite, tag, delete, undo."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import skimage

from bench.serving import serving
from tests.web.browser import Keys, Page
from tests.web.conftest import Draw, Visit

pytestmark = pytest.mark.browser

PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg")


@dataclass(frozen=True)
class Story:
    """Pictures in a folder, of which one is looked for, and asked about."""

    folder: Path
    sought: str  # the file name of that one
    search: str
    question: str
    right: set[str]  # words of which the answer to it has one


def tell(page: Page, story: Story) -> None:
    names = sorted(path.name for path in story.folder.iterdir())
    page.until_visible("#welcome")
    page.drop(story.folder)
    page.until_text("#upload-state", f"Added {len(names)} pictures")
    assert sorted(page.names()) == names

    page.search(story.search)
    page.until(lambda: page.names()[:1] == [story.sought])
    page.open(story.sought)
    answer = page.ask(story.question, "#asking-picture")
    assert story.right & set(answer.lower().rstrip(".").split()), answer

    page.type("#tag-new", "found", Keys.ENTER)
    page.until_text("#tags", "found")
    page.click("#viewer-close")
    page.until_hidden("#viewer")

    page.select("#asking-library .reach", "best match")
    answer = page.ask(f"What is in the picture of {story.search}?")
    assert story.right & set(answer.lower().rstrip(".").split()), answer
    (cited,) = page.all(".card.cited img")
    assert cited.get_property("alt") == story.sought

    page.go("?tag=found")
    page.until_names(story.sought)
    page.open(story.sought)
    page.click("#viewer-delete")
    page.until_hidden("#viewer")
    assert page.names() == []
    page.click("#undo-button")
    page.until_names(story.sought)


def test_with_the_fake_model(page: Page, draw: Draw) -> None:
    for colour in ("red", "green", "blue"):
        draw(f"{colour}.png", colour)
    folder = draw("white.png", "white").parent
    tell(page, Story(folder, "blue.png", "a blue wall", "What is it?", {"blue"}))
    loaded = page.driver.execute_script(
        "return performance.getEntriesByType('resource').map(({name}) => name)"
    )
    others = [name for name in loaded if not name.startswith((page.url, "blob:"))]
    assert others == []


@pytest.mark.model
def test_with_the_default_model(visit: Visit, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in PHOTOGRAPHS:
        shutil.copy(Path(skimage.__file__).parent / "data" / name, folder)
    with serving(tmp_path / "service") as running:
        page = visit(running.url)
        right = {"cat", "tabby"}
        question = "What is in the picture?"
        tell(page, Story(folder, "chelsea.png", "a cat", question, right))
        page.open("chelsea.png")
        page.click("#kept summary")
        page.until_text("#kept-words", "cat")
