"""The picture of the page in the README: `make screenshot`.

The real service with the default model, and photographs that scikit-image ships.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import skimage

from bench.chromium import MOUSE
from bench.serving import serving
from tests.web.browser import Page, browser

TARGET = Path(__file__).parents[2] / "docs" / "assets" / "page.png"
SIZE_PX = (1280, 600)
LIMIT_S = 600  # for all photographs, on a slow machine
PHOTOGRAPHS = (
    "astronaut.png",
    "grass.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "coffee.png",
    "rocket.jpg",
    "chelsea.png",
)


def take(url: str, profile: Path, target: Path) -> None:
    """Adds the photographs to the empty library at `url`, asks, and writes what is to be seen."""
    photographs = Path(skimage.__file__).parent / "data"
    with browser(profile, MOUSE) as driver:
        page = Page(driver, url)
        page.set_size(SIZE_PX)
        page.set_dark(False)
        page.go()
        page.until_visible("#welcome")
        page.choose("#photos", *(photographs / name for name in PHOTOGRAPHS))
        page.until_added(LIMIT_S)
        page.select("#asking-library .reach", "best match")
        page.ask("What kind of cat is it?")
        driver.save_screenshot(str(target))


def main() -> None:
    """Writes docs/assets/page.png."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder / "service") as service:
            take(service.url, folder / "profile", TARGET)


if __name__ == "__main__":
    main()
