"""docs/settings.md is made from the settings: python -m tests.docs.test_settings_page --write."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from service.settings import Settings
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "settings.md"
HEAD = """# Settings

Each setting is a flag of `precis serve`, an environment variable, and a line of the settings file,
on Linux `~/.config/precis/precis.toml`:

```toml
port = 9000
keep = "original"
```

A flag counts before the environment, and the environment before the file. `precis config` shows the
value of each and where it comes from. This page is made from the service's own list.

| flag | variable | default | meaning |
|---|---|---|---|
"""
# Those that are found out at the start.
DEFAULTS = {
    "data_dir": "`~/.local/share/precis` on Linux",
    "model_dir": "`~/.cache/precis` on Linux",
    "decode_threads": "the processor's cores, at most 4",
}


def settings_page() -> str:
    """The page, in Markdown."""
    return HEAD + "".join(f"{row}\n" for row in _rows())


def _rows() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        flag = f"`--{name.replace('_', '-')}`"
        default = "" if field.default is None else f"`{field.default}`"
        meaning = " ".join((field.description or "").split())
        cells = (flag, f"`PRECIS_{name.upper()}`", DEFAULTS.get(name, default), meaning)
        yield f"| {' | '.join(cells)} |"


def test_the_page_is_made_from_the_settings() -> None:
    assert settings_page() == PAGE.read_text()


if __name__ == "__main__" and "--write" in sys.argv:
    PAGE.write_text(settings_page())
