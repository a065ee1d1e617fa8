"""A search for one query keeps to the thread that asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.processes import REPOSITORY

# In a process of its own: FAISS keeps the threads that it once started.
SEARCHES = """
import sys, threading
from pathlib import Path
import numpy as np
from index.vectors.flat_index import FlatIndex

vectors = np.random.default_rng(0).normal(size=(20_000, 16)).astype(np.float32)
index = FlatIndex(16)
index.add(np.arange(len(vectors)), vectors)
tasks = Path("/proc/self/task")
before = len(list(tasks.iterdir()))
found, end = threading.Barrier(5), threading.Barrier(5)

def search():
    index.search(vectors[:int(sys.argv[1])], 10)
    found.wait()
    end.wait()

threads = [threading.Thread(target=search) for _ in range(4)]
for thread in threads:
    thread.start()
found.wait()
print(len(list(tasks.iterdir())) - before)
end.wait()
"""


def new_threads(queries: int) -> int:
    """How many threads four threads' searches add, those four included."""
    command = [sys.executable, "-c", SEARCHES, str(queries)]
    environment = {"OMP_NUM_THREADS": "3"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize(("queries", "expected"), [(1, 4), (64, 12)])
def test_only_a_batch_of_queries_has_a_team_of_threads(
    queries: int, expected: int
) -> None:
    assert new_threads(queries) == expected
