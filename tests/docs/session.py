"""A reader who goes through a page from top to bottom: a folder, a home, a service that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.docs.blocks import Block, blocks, commands

LIMIT_S = 900
MARK = "--- block at line "
OUTPUTS = {
    "Output",
    "Example output",
}  # titles; what an example shows depends on the model
ELLIPSIS = "…"  # in a shown output: anything
# An id that the reader is to take from an earlier output: here the image stored first.
FIRST_ID = '"$(precis list --limit 1 | cut -c1-32)"'
DEFAULT_URL = "http://127.0.0.1:8000"
# Commands that a page shows and the test leaves out, each for a reason.
NOT_RUN = {
    ("make", "serve"): "the test starts a service of its own",
    ("hf", "download"): "the test makes a model of two small layers in that folder",
    ("precis", "serve"): "the test starts a service of its own",
    ("pip", "install"): "the packages are in requirements-dev.txt",
    ("precis", "watch"): "it never ends",
    ("precis", "keys"): "from then on the service asks the rest of the page for a key",
}


@dataclass(frozen=True)
class Reader:
    """Runs the blocks of pages in `folder`.

    `url` takes the place of the service's default address, and `changes` are other texts with what
    takes theirs.
    """

    folder: Path
    url: str
    environment: Mapping[str, str]
    changes: Mapping[str, str] = field(default_factory=dict)

    def read(self, page: str) -> None:
        """Runs a page's blocks in order; AssertionError where one fails or prints other things."""
        page_blocks = blocks(page)
        printed = self._run(page_blocks)
        for before, block in pairwise(page_blocks):
            if block.title == "Output":
                shown = self._here(block.code)
                output = printed[before.line]
                assert is_shown(shown, output), f"{block} printed:\n{output}"

    def _run(self, page_blocks: list[Block]) -> dict[int, str]:
        """What each block that runs prints, by its line."""
        script = "set -euo pipefail\n" + "".join(
            f"echo '{MARK}{block.line}'\n{self._here(code)}\n"
            for block in page_blocks
            if (code := _shell(block)) is not None
        )
        ran = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self._surroundings(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        page = page_blocks[0].page
        assert ran.returncode == 0, f"{page}, last block:\n{ran.stdout[-4000:]}"
        return dict(_outputs(ran.stdout))

    def _here(self, code: str) -> str:
        for text, other in {DEFAULT_URL: self.url, **self.changes}.items():
            code = code.replace(text, other)
        return code

    def _surroundings(self) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ours = {"PATH": programs, "PRECIS_URL": self.url, "COLUMNS": "100"}
        return {**os.environ, **ours, **self.environment}


def _shell(block: Block) -> str | None:
    """The block as shell code; None if it is not to be run."""
    if block.title in OUTPUTS:
        return None
    if block.title is not None:
        return f"cat > {block.title} <<'END_OF_FILE'\n{block.code}END_OF_FILE"
    if block.language == "python":
        return f"python -W error - <<'END_OF_CODE'\n{block.code}END_OF_CODE"
    if block.language != "sh":
        return None
    lines = [line for line in block.code.splitlines() if not _is_left_out(line)]
    return re.sub(r"\bID\b", lambda _: FIRST_ID, "\n".join(lines))


def _is_left_out(line: str) -> bool:
    try:
        words = next(commands(line), [])
    except ValueError:  # a part of a longer command
        return False
    return tuple(words[:2]) in NOT_RUN


def _outputs(printed: str) -> Iterator[tuple[int, str]]:
    for part in printed.split(MARK)[1:]:
        line, _, output = part.partition("\n")
        yield int(line), output


def is_shown(shown: str, printed: str) -> bool:
    """Whether a page may show `printed` so: white space apart, `…` stands for anything."""
    parts = ["".join(part.split()) for part in shown.split(ELLIPSIS)]
    pattern = ".*".join(map(re.escape, parts))
    return re.fullmatch(pattern, "".join(printed.split())) is not None
