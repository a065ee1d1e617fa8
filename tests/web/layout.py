"""Measures a page: what leaves its container, and what axe-core has against it."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

pytest.importorskip("axe_playwright_python")

# The package wraps axe-core for another driver; here the engine alone is of use.
AXE = (files("axe_playwright_python") / "axe.min.js").read_text()

# Elements that are wider or higher than their parent, or than what they show of themselves.
_LEAVING = """
const LEEWAY_PX = 1;
const scrolls = (overflow) => overflow === "auto" || overflow === "scroll";
const shortened = ".scope, .asked, #results-title";  // on purpose, with an ellipsis
const name = (element) =>
  element.tagName.toLowerCase() + (element.id && "#" + element.id) +
  [...element.classList].map((name) => "." + name).join("");
const leaving = [];
for (const element of document.querySelectorAll("body *")) {
  const style = getComputedStyle(element);
  const inner = element.getBoundingClientRect();
  const isTiny = inner.width <= 1 || inner.height <= 1 || style.clipPath !== "none";
  if (isTiny || !element.checkVisibility() || element.closest("select, .skip")) continue;
  const parent = getComputedStyle(element.parentElement);
  const outer = element.parentElement.getBoundingClientRect();
  if (style.position !== "fixed") {
    const left = inner.left < outer.left - LEEWAY_PX || inner.right > outer.right + LEEWAY_PX;
    const top = inner.top < outer.top - LEEWAY_PX || inner.bottom > outer.bottom + LEEWAY_PX;
    if (left && !scrolls(parent.overflowX)) leaving.push(name(element) + " sideways");
    if (top && !scrolls(parent.overflowY)) leaving.push(name(element) + " up or down");
  }
  const isText = !element.matches("input, textarea, " + shortened);
  const isWide = element.clientWidth && element.scrollWidth > element.clientWidth + LEEWAY_PX;
  if (isText && isWide && !scrolls(style.overflowX)) leaving.push(name(element) + " inside");
}
if (document.documentElement.scrollWidth > innerWidth) leaving.push("the page sideways");
return leaving;
"""


def leaving(driver: Any) -> list[str]:
    """Names of the visible elements that leave their container."""
    found: list[str] = driver.execute_script(_LEAVING)
    return found


def violations(driver: Any) -> list[str]:
    """What axe-core finds: the rule, and where it is broken."""
    if not driver.execute_script("return Boolean(window.axe)"):
        driver.execute_script(AXE)
    report = driver.execute_async_script(
        "const done = arguments[0]; axe.run().then((report) => done(report.violations));"
    )
    return [
        f"{violation['id']}: {node['html']}"
        for violation in report
        for node in violation["nodes"]
    ]
