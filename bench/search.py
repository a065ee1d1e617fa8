"""What a search adds to the text embedding's own time, over 100,000 stored images: nearest vectors
and their records.

The library is filled with records of the default model's size, closed and opened again, as a
service finds it. Vectors lie in clusters, as embeddings do; queries are near stored ones. Beside
it, on the same vectors: FAISS comparing every vector, and NumPy. Recall says how many of the true
ten nearest the library found. Physical limit: comparing everything reads 1 kB a vector over the
memory's bandwidth; an inverted file reads a few hundred vectors, and then what is left is the
reading of the records that are shown.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from statistics import median

import faiss
import numpy as np
from numpy.typing import NDArray

from bench.default_model import EMBEDDING_SIZE, TOKENS_SHAPE
from bench.measure import Figure, in_turn, report, seconds
from index.codecs.registry import CodecRegistry
from index.library import Library, open_library
from index.ports import NewImage
from index.store.sqlite import SqliteStore
from index.vectors.auto_index import AutoIndex
from index.vectors.snapshot import SnapshotManager

FINGERPRINT = hashlib.sha256(b"benchmark").hexdigest()
HITS = 10
VECTORS_A_CLUSTER = 100
RECORDS_A_BATCH = 2_000

Vectors = NDArray[np.float32]


def run(*, images: int = 100_000, rounds: int = 200) -> None:
    """Fills a library, measures `rounds` searches of each kind and reports."""
    random = np.random.default_rng(0)
    vectors = clustered(random, images)
    queries = unit(
        vectors[random.integers(images, size=rounds)]
        + 0.7 * unit(noise(random, rounds))
    )
    flat = faiss.IndexFlatIP(EMBEDDING_SIZE)
    flat.add(vectors)
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), vectors)
        library = open_library(
            Path(folder),
            fingerprint=FINGERPRINT,
            token_shape=TOKENS_SHAPE,
            embedding_size=EMBEDDING_SIZE,
        )
        searches: dict[str, Callable[[Vectors], object]] = {
            "library": lambda query: library.search(query, HITS),
            "faiss_flat": lambda query: flat.search(query, HITS),
            "numpy": lambda query: nearest(vectors, query),
        }

        def timed(search: Callable[[Vectors], object]) -> Callable[[], float]:
            one_by_one = cycle(queries[:, np.newaxis])
            search(next(one_by_one))
            return lambda: seconds(lambda: search(next(one_by_one)))

        taken = in_turn(
            {name: timed(search) for name, search in searches.items()}, rounds
        )
        recall = np.mean(
            [
                found_of_nearest(library, vectors, query)
                for query in queries[:, np.newaxis]
            ]
        )
        library.close()
    report(
        "search",
        [
            Figure("images", images),
            Figure(
                "library_ms",
                1e3 * median(taken["library"]),
                at_most=3,
            ),
            Figure(
                "library_95th_percentile_ms",
                1e3 * float(np.percentile(taken["library"], 95)),
            ),
            Figure("faiss_flat_ms", 1e3 * median(taken["faiss_flat"])),
            Figure("numpy_ms", 1e3 * median(taken["numpy"])),
            Figure("recall_of_10", float(recall)),
        ],
    )


def fill(
    folder: Path,
    vectors: Vectors,
    token_shape: tuple[int, int] = TOKENS_SHAPE,
    codec: str = "sq8",
) -> None:
    """A data folder with one record for each vector, the index built to the end."""
    index = AutoIndex(EMBEDDING_SIZE)
    library = Library(
        store=SqliteStore(folder),
        index=index,
        codecs=CodecRegistry(folder / "codecs"),
        snapshots=SnapshotManager(folder, "auto"),
        fingerprint=FINGERPRINT,
        token_shape=token_shape,
        embedding_size=EMBEDDING_SIZE,
        codec=codec,
    )
    for batch in batches(vectors, token_shape):
        library.put(batch)
    index.wait()
    library.close()


def batches(vectors: Vectors, token_shape: tuple[int, int]) -> Iterator[list[NewImage]]:
    """New images with these embeddings; their tokens are noise, as long as real ones."""
    tokens = np.random.default_rng(1).normal(size=token_shape).astype(np.float32)
    for start in range(0, len(vectors), RECORDS_A_BATCH):
        yield [
            NewImage(
                sha256=hashlib.sha256(str(start + number).encode()).hexdigest(),
                fingerprint=FINGERPRINT,
                tokens=tokens,
                embedding=vector,
                width_px=640,
                height_px=480,
                metadata={"filename": f"photograph-{start + number}.jpg"},
                picture=None,
            )
            for number, vector in enumerate(vectors[start : start + RECORDS_A_BATCH])
        ]


def nearest(vectors: Vectors, query: Vectors) -> NDArray[np.int64]:
    """Rows of the `HITS` nearest, best first, by NumPy."""
    scores = vectors @ query[0]
    best = np.argpartition(-scores, HITS)[:HITS]
    return best[np.argsort(-scores[best])]


def found_of_nearest(
    library: Library,
    vectors: Vectors,
    query: Vectors,
) -> float:
    """Share of the true nearest among the library's hits."""
    true = {f"photograph-{row}.jpg" for row in nearest(vectors, query)}
    return (
        len(
            true
            & {
                hit.record.metadata["filename"]
                for hit in library.search(query, HITS)[0]
            }
        )
        / HITS
    )


def clustered(random: np.random.Generator, count: int) -> Vectors:
    """(count, E) unit vectors, some hundred to a cluster."""
    centres = unit(noise(random, max(1, count // VECTORS_A_CLUSTER)))
    return unit(
        centres[random.integers(len(centres), size=count)]
        + 0.7 * unit(noise(random, count))
    )


def noise(random: np.random.Generator, count: int) -> Vectors:
    """(count, E) normal values."""
    return random.standard_normal((count, EMBEDDING_SIZE), dtype=np.float32)


def unit(vectors: Vectors) -> Vectors:
    """The vectors (count, E), each of length 1."""
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


if __name__ == "__main__":
    run()
