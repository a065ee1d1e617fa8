"""Links of the documentation lead to files, and the targets of make that it names exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import ROOT, blocks, commands, read
from tests.docs.test_blocks import PAGES

LINK = re.compile(r"\]\((?!https?://)([^)#]+)[^)]*\)")
TARGETS = re.compile(r"^([a-z][a-z -]*):", re.MULTILINE)
MAKE = re.compile(r"`make ([a-z-]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    folder = (ROOT / page).parent
    for target in LINK.findall(read(page)):
        assert (folder / target).exists(), target


def test_make_targets_exist() -> None:
    targets = " ".join(TARGETS.findall(read("Makefile"))).split()
    named = {target for page in PAGES for target in MAKE.findall(read(page))}
    for page in PAGES:
        for block in blocks(page):
            if block.language == "sh":
                lines = commands(block.code)
                named |= {words[1] for words in lines if words[0] == "make"}
    assert named >= {"serve", "test"}
    assert named <= set(targets)
