"""A headless Chromium, and what a person does with the page in it.

Needs chromium and chromedriver on the PATH.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="requirements-browser.txt is not installed"
)

from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

from bench.chromium import BrowserMissing, chromium  # noqa: E402

DESKTOP, PHONE = (1440, 900), (390, 844)  # width and height in px
LIMIT_S = 60


@contextmanager
def browser(profile: Path, *flags: str) -> Iterator[Any]:
    """A driver of a new Chromium, which has ended after the block."""
    try:
        with chromium(profile, *flags) as driver:
            yield driver
    except BrowserMissing as error:
        pytest.skip(str(error))


class Page:
    """What a person does with the page, and sees of it."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url

    def go(self, address: str = "") -> None:
        self.driver.get(f"{self.url}/{address}")

    def set_size(self, size: tuple[int, int]) -> None:
        width, height = size
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        }
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def set_dark(self, dark: bool) -> None:
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": features}
        )

    # --- what is to be seen

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.one(selector).text)

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def is_visible(self, selector: str) -> bool:
        return bool(self.one(selector).is_displayed())

    @property
    def query(self) -> str:
        """The query of the address."""
        return str(self.driver.execute_script("return location.search"))

    def names(self) -> list[str]:
        """Of the pictures in the gallery, in order."""
        images = self.all(".card:not([hidden]) img")
        return [str(image.get_property("alt")) for image in images]

    def until(self, condition: Callable[[], Any], limit_s: int = LIMIT_S) -> Any:
        # The page may replace what the condition is just looking at.
        waiting = WebDriverWait(
            self.driver,
            limit_s,
            0.05,
            ignored_exceptions=[StaleElementReferenceException],
        )
        return waiting.until(lambda _: condition())

    def until_names(self, *names: str) -> None:
        self.until(lambda: self.names() == list(names))

    def until_visible(self, selector: str) -> None:
        self.until(lambda: self.is_visible(selector))

    def until_hidden(self, selector: str) -> None:
        self.until(lambda: not self.is_visible(selector))

    def until_text(self, selector: str, part: str) -> None:
        self.until(lambda: part in self.text(selector))

    # --- what a person does

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def type(self, selector: str, *keys: str) -> None:
        self.one(selector).clear()
        self.one(selector).send_keys(*keys)

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def select(self, selector: str, text: str) -> None:
        self.until(lambda: text in self.texts(f"{selector} option"))
        Select(self.one(selector)).select_by_visible_text(text)

    def choose(self, selector: str, *paths: Path) -> None:
        """Chooses files in a file input."""
        self.one(selector).send_keys("\n".join(map(str, paths)))

    def drop(self, *paths: Path, at: tuple[int, int] = (300, 500)) -> None:
        """Drops files or folders on the page, as from the desktop."""
        x, y = at
        data = {"items": [], "files": [str(path) for path in paths]}
        data["dragOperationsMask"] = 1
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": x, "y": y, "data": data}
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", event)

    def swipe(self, selector: str, by_px: int) -> None:
        """Moves a finger sideways, from the middle of an element."""
        box = self.one(selector).rect
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        moves = (("touchStart", [x]), ("touchMove", [x + by_px]), ("touchEnd", []))
        for kind, places in moves:
            points = [{"x": place, "y": y} for place in places]
            event = {"type": kind, "touchPoints": points}
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    def add(self, *paths: Path) -> None:
        """Chooses pictures, and waits for all of them."""
        self.choose("#photos", *paths)
        self.until_added()

    def until_added(self, limit_s: int = LIMIT_S) -> None:
        def is_added() -> bool:
            return self.text("#upload-state").startswith("Added")

        self.until(is_added, limit_s)

    def search(self, text: str) -> None:
        self.type("#query", text, Keys.ENTER)
        self.until_text("#results-title", f"“{text}”")

    def open(self, name: str) -> None:
        for button in self.all(".card:not([hidden]) .open"):
            if button.get_property("title") == name:
                button.click()
                return self.until_text("#viewer-title", name)
        raise AssertionError(f"there is no picture {name}")

    def mark(self, *names: str) -> None:
        for box in self.all(".card:not([hidden]) .mark input"):
            label = str(box.get_attribute("aria-label"))
            if label.removeprefix("Mark ") in names:
                self.driver.execute_script("arguments[0].click()", box)

    def ask(self, question: str, place: str = "#asking-library") -> str:
        """The answer to a question that is typed into one of the two boxes."""
        before = len(self.all(f"{place} .answer"))
        self.type(f"{place} textarea", question, Keys.ENTER)
        self.until(lambda: len(self.all(f"{place} .answer:not(.busy)")) > before)
        return self.text(f"{place} .answer .said")
