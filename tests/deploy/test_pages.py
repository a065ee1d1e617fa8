"""The files of clusters that pages show are files that `precis cluster up` takes."""

from __future__ import annotations

import tomllib

import pytest

from service.cluster.config import cluster_config
from tests.docs.blocks import Block, blocks

PAGES = ("docs/operations.md", "docs/tutorials/cluster.md")
FILES = [
    block
    for page in PAGES
    for block in blocks(page)
    if block.language == "toml" and "[settings]" in block.code
]


def test_each_page_shows_one() -> None:
    assert {block.page for block in FILES} == set(PAGES)


@pytest.mark.parametrize("block", FILES, ids=str)
def test_precis_takes_it(block: Block) -> None:
    config = cluster_config(tomllib.loads(block.code))
    assert config.service_settings().store.startswith("postgresql://")
