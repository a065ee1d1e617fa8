"""A headless Chromium, driven by Selenium. Needs chromium and chromedriver on the PATH."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver

# The first makes it run as root; the others keep it from speaking to anyone but the service.
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
    "--lang=en-GB",
)
# A headless browser has no mouse unless told so. The bits: 2 is "hover", 4 is "fine".
MOUSE = (
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,"
    "primaryPointerType=4,availablePointerTypes=4"
)


class BrowserMissing(Exception):
    """Chromium or ChromeDriver is not installed."""


@contextmanager
def chromium(profile: Path, *more: str) -> Iterator[Any]:
    """A driver of a new Chromium, which has ended after the block; `more` are further flags.

    Raises BrowserMissing.
    """
    binary, driver_binary = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver_binary:
        raise BrowserMissing("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, *more, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver_binary))
    try:
        yield driver
    finally:
        driver.quit()
