"""Memory stays where it is over a hundred thousand mixed operations."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.index.libraries import open_here
from tests.index.samples import make_ids, make_images

OPERATIONS = 100_000
LIVE = 2_000  # images at any time


def resident_bytes() -> int:
    statm = Path("/proc/self/statm").read_text()
    resident_pages = int(statm.split()[1])
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_resident_memory_grows_by_less_than_two_percent(tmp_path: Path) -> None:
    library = open_here(tmp_path)
    images = make_images(range(2 * LIVE))
    ids = make_ids(range(len(images)))
    random = np.random.default_rng(0)

    def work(operations: int) -> None:
        for _ in range(operations // 72):
            added = random.choice(len(images), size=32, replace=False)
            library.put([images[n] for n in added])
            four = added[:4]
            library.get([ids[n] for n in four])
            queries = [images[n].embedding for n in four]
            library.search(np.stack(queries), 10)
            deleted = random.choice(len(images), size=32, replace=False)
            library.delete([ids[n] for n in deleted])

    work(OPERATIONS // 5)  # caches, pools and arrays reach their size
    before = resident_bytes()
    work(OPERATIONS)
    grown = resident_bytes() / before - 1
    library.close()
    assert grown < 0.02
