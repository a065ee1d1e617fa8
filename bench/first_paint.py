"""How soon the web page shows something, in a real Chromium.

First contentful paint (W3C Paint Timing) from the start of the navigation, with the browser's cache
emptied and with it full, of a library with photographs; beside it when the last thumbnail in the
window has come. Browser and service share one machine, so no network is in the times; what a user's
network has to carry before that is reported in bytes.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from selenium.webdriver.support.ui import WebDriverWait

from bench.chromium import chromium
from bench.measure import Figure, report
from bench.photographs import write_jpegs
from bench.serving import Command, precis_serve, serving
from precis_client.ingestion import Ingestion
from precis_client.sync_client import Precis

GIVE_UP_S = 60
WINDOW_PX = (1440, 900)
# Null until the browser has painted and the pictures in the window are there. Times are in
# milliseconds from the start of the navigation.
TIMINGS = """
const paint = performance.getEntriesByName("first-contentful-paint")[0];
const pictures = [...document.querySelectorAll(".card img")].filter(
  (image) => image.getBoundingClientRect().top < innerHeight,
);
const areThere = pictures.every((image) => image.complete && image.naturalWidth > 0);
if (!paint || pictures.length === 0 || !areThere) return null;
const loads = [
  ...performance.getEntriesByType("navigation"),
  ...performance.getEntriesByType("resource"),
];
const isThumbnail = (load) => load.name.endsWith("/thumbnail");
const thumbnails = loads.filter(isThumbnail);
const others = loads.filter((load) => !isThumbnail(load));
return [
  paint.startTime,
  Math.max(...thumbnails.map((load) => load.responseEnd)),
  others.reduce((sum, load) => sum + load.transferSize, 0),
];
"""


@dataclass(frozen=True)
class Visit:
    """One visit of the page."""

    paint_ms: float  # first contentful paint
    thumbnails_ms: float  # the last thumbnail in the window has come
    page_bytes: float  # over the socket, thumbnails apart; 0 of what the cache had


def run(
    *, rounds: int = 7, photographs: int = 24, command: Command = precis_serve
) -> None:
    """Visits the page `rounds` times each way, and reports."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_jpegs(folder / "photographs", photographs)
        with serving(folder / "service", command) as service:
            with Precis(service.url) as precis:
                ingestion = Ingestion(precis, paths, most_in_flight=photographs)
                for outcome in ingestion.outcomes():
                    assert outcome.status == "created", outcome.reason
            with chromium(folder / "profile") as driver:
                driver.set_window_size(*WINDOW_PX)
                visit(driver, service.url)  # starts the browser's own processes
                emptied, full = [], []
                for _ in range(rounds):
                    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
                    emptied.append(visit(driver, service.url))
                    full.append(visit(driver, service.url))
    report(
        "first_paint",
        [
            Figure(
                "first_paint_ms",
                median(each.paint_ms for each in emptied),
                at_most=1000,
            ),
            Figure("again_first_paint_ms", median(each.paint_ms for each in full)),
            Figure("thumbnails_ms", median(each.thumbnails_ms for each in emptied)),
            Figure("again_thumbnails_ms", median(each.thumbnails_ms for each in full)),
            Figure("page_bytes", median(each.page_bytes for each in emptied)),
            Figure("again_page_bytes", median(each.page_bytes for each in full)),
        ],
    )


def visit(driver: Any, url: str) -> Visit:
    """Opens the page anew and waits until its pictures are there."""
    driver.get("about:blank")
    driver.get(url)
    waiting = WebDriverWait(driver, GIVE_UP_S, 0.05)
    return Visit(*waiting.until(lambda _: driver.execute_script(TIMINGS)))


if __name__ == "__main__":
    run()
