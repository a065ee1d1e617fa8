"""The picture of the page in the README: `make screenshot`.

The real service with the default model, and photographs that scikit-image ships.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import skimage

from bench.serving import serving
from tests.web.browser import Page, browser

TARGET = Path(__file__).parents[2] / "docs" / "assets" / "page.png"
SIZE_PX = (1280, 800)
PHOTOGRAPHS = (
    "astronaut.png",
    "grass.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "coffee.png",
    "rocket.jpg",
    "chelsea.png",
)


def main() -> None:
    """Writes docs/assets/page.png."""
    photographs = Path(skimage.__file__).parent / "data"
    with (
        TemporaryDirectory() as name,
        serving(Path(name) / "service") as service,
        browser(Path(name) / "profile") as driver,
    ):
        page = Page(driver, service.url)
        page.set_size(SIZE_PX)
        page.set_dark(False)
        page.go()
        page.until_visible("#welcome")
        page.add(*(photographs / name for name in PHOTOGRAPHS))
        print(page.ask("Is there a cat in a picture?"))
        driver.save_screenshot(str(TARGET))


if __name__ == "__main__":
    main()
