"""How soon a library of a million images answers: from the start of a process to its first correct
search.

The library is filled, its index built, and closed as a service closes it; then a new process opens
it and searches for a stored vector. Beside it a process that does what nobody can do without:
import FAISS and NumPy, open the SQLite file, read the index's snapshot and verify its bytes. Tokens
are short, since a start does not look at them. Physical limit: the snapshot's bytes, some 0.3 kB an
image, through memory once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from bench.default_model import EMBEDDING_SIZE
from bench.measure import Figure, in_turn, median_ratio, report, seconds
from bench.search import FINGERPRINT, clustered, fill

TOKENS_SHAPE = (1, 8)

OPEN_AND_SEARCH = f"""
import sys
import numpy as np
import psutil
from pathlib import Path
from index.library import open_library
folder = Path(sys.argv[1])
library = open_library(
    folder,
    fingerprint={FINGERPRINT!r},
    token_shape={TOKENS_SHAPE},
    embedding_size={EMBEDDING_SIZE},
)
(hit,), *_ = library.search(np.load(folder / "query.npy")[None], 1)
assert hit.record.metadata["filename"] == f"photograph-{{sys.argv[2]}}.jpg", hit.record.metadata
print(psutil.Process().memory_info().rss, flush=True)
"""
FLOOR = """
import hashlib, sqlite3, sys
import faiss, numpy
from pathlib import Path
folder = Path(sys.argv[1])
sqlite3.connect(folder / "images.sqlite").execute("SELECT images FROM store").fetchone()
(snapshot,) = folder.glob("vectors-*.snapshot")
digest = hashlib.blake2b(digest_size=16)
with snapshot.open("rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
faiss.read_index(str(snapshot))
print(0, flush=True)
"""


def run(*, images: int = 1_000_000, starts: int = 5) -> None:
    """Fills a library, starts it `starts` times, and reports."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = images // 2
        vectors = clustered(np.random.default_rng(0), images)
        np.save(folder / "query.npy", vectors[wanted])
        fill(folder, vectors, TOKENS_SHAPE, "fp16")
        del vectors
        resident: list[int] = []
        sides = {"library": OPEN_AND_SEARCH, "floor": FLOOR}

        def started(code: str) -> None:
            done = subprocess.run(
                [sys.executable, "-c", code, str(folder), str(wanted)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            resident.append(int(done.stdout))

        taken = in_turn(
            {
                side: lambda code=code: seconds(lambda: started(code))
                for side, code in sides.items()
            },
            starts,
        )
    report(
        "start",
        [
            Figure("images", images),
            Figure("first_answer_s", median(taken["library"]), at_most=5),
            Figure("to_floor", median_ratio(taken["library"], taken["floor"])),
            Figure("resident_mb", max(resident) / 2**20),
            Figure("resident_bytes_an_image", max(resident) / images),
        ],
    )


if __name__ == "__main__":
    run(images=int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
