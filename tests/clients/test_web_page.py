"""The web page in headless Chromium against the real service. Run by `make test-browser`.

Needs chromium and chromedriver on the PATH.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from index.calibration import write_calibration
from precis_client import Precis
from tests.clients.conftest import Draw
from tests.clients.serving import served
from tests.fakes.model import Gate, InterruptedGenerator, made_up_calibration
from tests.service.conftest import factory

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip(
    "selenium.webdriver", reason="requirements-browser.txt is not installed"
)

from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
# The first makes it run as root; the others keep it from speaking to anyone but the service under
# test.
FLAGS = (
    "--no-sandbox",
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class Page:
    """What a person does with the page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def type(self, selector: str, *keys: str) -> None:
        self.one(selector).clear()
        self.one(selector).send_keys(*keys)

    def until(self, condition: Callable[[], Any]) -> Any:
        # The page may replace what the condition is just looking at.
        waiting = WebDriverWait(
            self.driver, 30, 0.05, ignored_exceptions=[StaleElementReferenceException]
        )
        return waiting.until(lambda _: condition())

    def add(self, *paths: Path) -> None:
        text = "\n".join(map(str, paths))
        self.one("#photos").send_keys(text)
        self.until(lambda: self.text("#notice").startswith(("Added ", "torn")))

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def text(self, selector: str) -> str:
        return str(self.one(selector).text)

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def has_loaded_all_pictures(self) -> bool:
        pictures = self.all(".card img")
        return all(picture.get_property("naturalWidth") for picture in pictures)

    def names(self) -> list[str]:
        return self.texts(".card .name")

    def until_names(self, *names: str) -> None:
        self.until(lambda: self.names() == list(names))

    def until_first(self, name: str) -> None:
        self.until(lambda: self.names()[:1] == [name])

    def until_visible(self, selector: str) -> None:
        self.until(lambda: self.one(selector).is_displayed())

    def card(self, name: str) -> Any:
        for card in self.all(".card"):
            if card.find_element(By.CSS_SELECTOR, ".name").text == name:
                return card
        raise AssertionError(f"there is no card {name}")

    def open(self, name: str) -> None:
        self.card(name).find_element(By.CSS_SELECTOR, ".open").click()
        self.until_visible("#details")

    def ask(self, question: str) -> str:
        before = len(self.all(".answer"))
        self.type("#question", question, Keys.ENTER)
        self.until(lambda: len(self.all(".answer:not(.busy)")) > before)
        return self.text(".answer .said")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not CHROMIUM or not DRIVER:
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, "--window-size=1280,900", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver: Any, url: str) -> Iterator[Page]:
    driver.get(url)
    page = Page(driver)
    page.until_visible("#welcome")
    yield page
    # The browser logs a problem of the service as a failed load; any other error is a mistake of
    # the page.
    for entry in driver.get_log("browser"):
        assert entry["level"] != "SEVERE" or entry["source"] == "network", entry


def test_from_photos_to_an_answer(page: Page, draw: Draw, precis: Precis) -> None:
    tall = draw("blue.png", "blue", (30, 90))
    page.add(draw("red.png", "red"), tall, draw("green.png", "green"))
    assert page.text("#notice").startswith("Added 3 photos")
    assert sorted(page.names()) == ["blue.png", "green.png", "red.png"]
    assert not page.one("#welcome").is_displayed()
    page.until(page.has_loaded_all_pictures)
    (kept,) = {image.tokens.bytes for image in precis.images()}
    assert set(page.texts(".card .facts")) == {f"{kept} B kept"}

    page.type("#query", "something blue", Keys.ENTER)
    page.until_first("blue.png")
    assert page.text("#gallery-title") == "“something blue”"

    assert page.ask("Where is the green one") == "I see green."
    assert len(page.all(".answer:first-child .used button")) == 1

    for name in ("blue.png", "red.png"):
        page.card(name).find_element(By.CSS_SELECTOR, ".pick").click()
    assert page.text("#scope") == "About 2 selected"
    assert page.ask("What?") == "I see blue red."
    page.click("#clear-selection")
    assert page.text("#scope") == "About the"
    page.click("#leave-search")
    page.until(lambda: page.text("#gallery-title") == "Library")
    page.until(lambda: len(page.names()) == 3)


def test_a_file_that_is_no_picture_fails_alone(
    page: Page, draw: Draw, tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    page.add(draw("red.png", "red"), tmp_path / "notes.png")
    page.until(lambda: "notes.png: The file is not an image" in page.text("#notice"))
    assert page.names() == ["red.png"]
    page.add(draw("again.png", "red"))
    assert "1 known already" in page.text("#notice")


def test_details_similar_and_delete(page: Page, draw: Draw, precis: Precis) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    page.add(draw("yellow.png", "yellow"))
    page.open("yellow.png")
    assert "4 summary tokens of 16 numbers" in page.text("#details-list")
    page.click("#details-similar")
    page.until(lambda: len(page.names()) == 3)
    page.until_first("yellow.png")
    page.open("yellow.png")
    page.click("#details-ask")
    assert page.text("#scope") == "About yellow.png"
    assert page.ask("What?") == "I see yellow."
    page.open("yellow.png")
    page.click("#details-delete")
    assert page.one("#details").is_displayed()
    page.click("#details-delete")
    page.until(lambda: sorted(page.names()) == ["blue.png", "red.png"])
    assert len(list(precis.images())) == 2
    assert page.text("#scope") == "About the"


def test_search_by_a_photo(page: Page, draw: Draw) -> None:
    page.add(draw("red.png", "red"), draw("blue.png", "blue"))
    sky = draw("sky.png", "blue", (9, 9))
    page.one("#query-photo").send_keys(str(sky))
    page.until_names("blue.png", "red.png")
    assert page.text("#gallery-title") == "Like sky.png"


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

    focus_goes_to(".card:first-child input")
    page.press(Keys.SPACE)
    assert page.text("#scope") == "About red.png"
    focus_goes_to(".card:first-child .open")
    page.press(Keys.ENTER)
    page.until_visible("#details")
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.one("#details").is_displayed())
    focus_goes_to("#question")
    page.press("What?", Keys.ENTER)
    page.until(lambda: page.texts(".answer:not(.busy) .said") == ["I see red."])


def test_nothing_is_wider_than_a_phone(page: Page, draw: Draw) -> None:
    long_name = "a-very-long-name-without-any-break-in-it" * 3 + ".png"
    page.add(draw(long_name, "red"), draw("blue.png", "blue"))
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        page.ask("x" * 300)
        page.type("#query", "y" * 200, Keys.ENTER)
        page.until(lambda: page.text("#gallery-title").startswith("“yyy"))
        assert (
            page.driver.execute_script("return document.documentElement.scrollWidth")
            == 360
        )
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_an_answer_is_shown_as_it_is_written_and_can_be_stopped(
    driver: Any, tmp_path: Path, draw: Draw
) -> None:
    gate = Gate()

    def hold_at_three(piece: Any) -> None:
        if piece.completion_tokens > 2:
            gate.pass_through()

    generator = InterruptedGenerator(hold_at_three)
    with served(tmp_path / "data", factory(generator=generator)) as url:
        driver.get(url)
        page = Page(driver)
        page.add(draw("red.png", "red"))
        page.type("#question", "count", Keys.ENTER)
        page.until(lambda: page.text(".answer.busy .said").startswith("1"))
        page.click("#stop")
        page.until(lambda: page.text(".answer:not(.busy) .note") == "Stopped.")
        gate.opened.set()
        assert generator.closed_early.wait(30)


def test_an_unsure_answer_is_marked(driver: Any, tmp_path: Path, draw: Draw) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(made_up_calibration(threshold=0.9), path)
    with served(tmp_path / "data", calibration=path) as url:
        driver.get(url)
        page = Page(driver)
        page.add(draw("red.png", "red"))
        assert page.ask("What?") == "I see red."
        assert "88 %" in page.text(".answer.unsure .note")


def test_the_key_is_asked_for_once(driver: Any, tmp_path: Path, draw: Draw) -> None:
    with served(tmp_path / "data", api_key="open sesame") as url:
        driver.get(url)
        page = Page(driver)
        for key in ("wrong key", "open sesame"):
            page.until_visible("#key")
            page.type("#key-value", key, Keys.ENTER)
        page.until_visible("#welcome")
        page.add(draw("red.png", "red"))
        page.until(lambda: page.one(".card img").get_property("naturalWidth"))
        assert page.ask("What?") == "I see red."
        driver.refresh()
        page.until_names("red.png")
        assert not page.one("#key").is_displayed()


def test_what_people_write_is_shown_as_text(
    page: Page, draw: Draw, precis: Precis
) -> None:
    html = "<img src=x onerror=document.title='hacked'>.png"
    metadata = {"filename": html, "note": html}
    precis.add(draw("red.png", "red"), metadata=metadata)
    page.driver.refresh()
    page.until_names(html)
    page.open(html)
    page.click("#details .quiet")
    page.type("#query", html, Keys.ENTER)
    page.until(lambda: page.text("#gallery-title") == f"“{html}”")
    assert page.driver.title == "Précis"
