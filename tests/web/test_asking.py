"""Questions about the library, marked pictures and the opened one."""

from __future__ import annotations

from pathlib import Path

import pytest

from index.calibration import write_calibration
from tests.clients.serving import served
from tests.fakes.model import held_after, made_up_calibration
from tests.service.conftest import factory
from tests.web.browser import Keys, Page
from tests.web.conftest import Draw, Visit

pytestmark = pytest.mark.browser


def test_the_opened_picture_is_asked_about_beside_it(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"))
    page.add(draw("blue.png", "blue"))
    page.open("blue.png")
    assert page.ask("What?", "#asking-picture") == "I see blue."
    page.click("#viewer-next")
    page.until_text("#viewer-title", "red.png")
    assert page.all("#asking-picture .answer") == []
    page.click("#asking-picture .suggestions button")
    page.until_text("#asking-picture .answer:not(.busy) .said", "I see red.")


def test_marked_pictures_are_asked_about_together(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"), draw("x.png", "green"))
    page.mark("red.png", "blue.png")
    assert page.text("#marked-count") == "2 marked"
    assert page.text("#asking-library .scope") == "About 2 marked pictures"
    assert page.ask("What?") in ("I see red blue.", "I see blue red.")
    page.click("#marked-clear")
    assert page.text("#asking-library .scope") == "About the"
    page.click(".answer .remove")
    assert page.all("#asking-library .answer") == []
    assert page.is_visible("#asking-library .suggestions")


def test_pictures_that_support_the_answer_are_highlighted(
    page: Page, draw: Draw
) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    page.select("#asking-library .reach", "best match")
    assert page.ask("Where is the blue one") == "I see blue."
    assert len(page.all("#asking-library .sources .cited")) == 1
    (cited,) = page.all(".card.cited img")
    assert cited.get_property("alt") == "blue.png"
    page.click("#asking-library .sources .cited")
    page.until_text("#viewer-title", "blue.png")
    page.click("#viewer-close")
    page.until_hidden("#viewer")
    page.click("#asking-library .answer .remove")
    assert page.all(".card.cited") == []


def test_an_empty_question_is_not_asked(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"))
    page.click("#asking-library .send")
    assert page.all("#asking-library .answer") == []
    assert page.driver.switch_to.active_element == page.one("#asking-library textarea")


def test_an_answer_is_shown_as_it_is_written_and_can_be_stopped(
    visit: Visit, tmp_path: Path, draw: Draw
) -> None:
    gate, generator = held_after(2)
    with served(tmp_path / "data", factory(generator=generator)) as url:
        page = visit(url)
        page.add(draw("red.png", "red"))
        page.open("red.png")
        page.type("#asking-picture textarea", "count", Keys.ENTER)
        page.until(lambda: page.text("#viewer .answer.busy .said").startswith("1"))
        page.click("#asking-picture .stop")
        page.until_text("#viewer .answer:not(.busy) .note", "Stopped.")
        gate.opened.set()
        assert generator.closed_early.wait(30)


def test_an_unsure_answer_is_marked(visit: Visit, tmp_path: Path, draw: Draw) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(made_up_calibration(threshold=0.9), path)
    with served(tmp_path / "data", calibration=path) as url:
        page = visit(url)
        page.add(draw("red.png", "red"))
        page.mark("red.png")
        assert page.ask("What?") == "I see red."
        assert "88%" in page.text(".answer.unsure .note")


@pytest.mark.parametrize(
    ("cited", "said"),
    [
        ([True], "From 1 picture"),
        ([False], "From 1 picture"),
        ([None], "From 1 picture"),
        ([None] * 3, "From 3 pictures"),
        ([False] * 2, "None of the 2 pictures supports this alone"),
        ([True, False], "1 of 2 pictures supports this"),
        ([True] * 2, "Both pictures support this"),
        ([True, True, None], "2 of 3 pictures support this"),
        ([True] * 4, "All 4 pictures support this"),
    ],
    ids=str,
)
def test_the_pictures_of_an_answer_are_counted_in_words(
    cited: list[bool | None], said: str, page: Page
) -> None:
    answer = {
        "answer": "A cat.",
        "images": [{"id": "0", "score": 0.5, "cited": each} for each in cited],
        "unsure": None,
        "finish_reason": "stop",
        "source": "model",
        "usage": {"prompt_tokens": 1, "completion_tokens": 3},
        "timings_ms": {"total": 1234},
    }
    note = page.driver.execute_async_script(
        """
        const [answer, done] = arguments;
        import("/web/answer.js").then(({ AnswerCard }) => {
          const card = new AnswerCard("What?", { onOpen() {}, onRemove() {} });
          card.finish(answer);
          done(card.element.querySelector(".note:last-child").textContent);
        });
        """,
        answer,
    )
    assert note == f"{said} · 1.2\u00a0s"
