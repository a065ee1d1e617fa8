"""Approximate search beside hnswlib, usearch, LanceDB and Milvus Lite, on the same vectors at the
same recall.

Real embeddings of the default model (of a text for each name its projector knows), extended by
sampling around them and rounded to eight bits a value, as a library keeps them; all engines get the
same. Each runs in a process of its own, one after the other: builds, then answers single queries
with more and more effort until ten nearest are found with the recall wanted. Memory is what the
process has taken for itself after the build (anonymous pages: not those of files, which the system
can drop), less what it had before. Settings follow each engine's own documentation for recall above
speed of building. Physical limit: comparing everything reads every vector; FAISS does that in the
table's last row.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import click
import faiss
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.default_model import EMBEDDING_SIZE, load
from bench.measure import Figure, report, seconds
from compressor.default_model.names import class_names
from compressor.evaluation.scores import text_embeddings
from index.vectors.arithmetic import round_to_int8
from index.vectors.auto_index import AutoIndex

HITS = 10
QUERIES = 300
ROUNDS = 3
# an engine that has not answered all queries by then is judged by those it answered
ROUND_S = 10.0
RECALL_S = 60.0
HNSW_EFFORTS = (16, 32, 48, 64, 96, 128, 192, 256, 512)
SPREAD = 0.7  # length of the noise added to a real embedding of length 1

Vectors = NDArray[np.float32]
Search = Callable[[Vectors], NDArray[np.int64]]  # (1, E) query → ids of the nearest
Efforts = Iterator[tuple[str, Search]]  # more and more


def precis(vectors: Vectors, folder: Path) -> Efforts:
    """Our index, as the library keeps it: it chooses its own effort when it is built."""
    index = AutoIndex(EMBEDDING_SIZE)
    for start in range(0, len(vectors), 50_000):
        index.add(
            np.arange(start, min(start + 50_000, len(vectors))),
            vectors[start : start + 50_000],
        )
    index.wait()
    index.save(folder / "vectors")
    yield "its own choice", lambda query: index.search(query, HITS)[1][0]


def hnswlib(vectors: Vectors, _folder: Path) -> Efforts:
    """HNSW by its authors."""
    import hnswlib as engine

    index = engine.Index(space="ip", dim=EMBEDDING_SIZE)
    index.init_index(
        max_elements=len(vectors),
        M=16,
        ef_construction=200,
    )
    index.add_items(vectors)
    for effort in HNSW_EFFORTS:
        index.set_ef(effort)
        yield (
            f"M=16 ef={effort}",
            lambda query: index.knn_query(query, HITS, num_threads=1)[0][0],
        )


def usearch(vectors: Vectors, _folder: Path) -> Efforts:
    """HNSW with half-precision vectors."""
    from usearch.index import Index

    index = Index(
        ndim=EMBEDDING_SIZE,
        metric="ip",
        dtype="f16",
        connectivity=16,
        expansion_add=128,
    )
    index.add(np.arange(len(vectors)), vectors)
    for effort in HNSW_EFFORTS:
        index.expansion_search = effort
        yield f"f16 M=16 ef={effort}", lambda query: index.search(query[0], HITS).keys


def lancedb(vectors: Vectors, folder: Path) -> Efforts:
    """An inverted file of product codes on disk, with exact rerank."""
    import lancedb as engine
    import pyarrow as pa

    column = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.reshape(-1)), EMBEDDING_SIZE
    )
    table = engine.connect(folder).create_table(
        "vectors", pa.table({"id": pa.array(np.arange(len(vectors))), "vector": column})
    )
    table.create_index(
        metric="dot",
        vector_column_name="vector",
        index_type="IVF_PQ",
        num_sub_vectors=64,
    )
    for probes, refine in ((10, 5), (20, 10), (40, 20), (80, 40), (160, 80)):

        def search(
            query: Vectors,
            probes: int = probes,
            refine: int = refine,
        ) -> NDArray[np.int64]:
            hits = (
                table.search(query[0])
                .distance_type("dot")
                .nprobes(probes)
                .refine_factor(refine)
                .limit(HITS)
            )
            return hits.select(["id"]).to_arrow()["id"].to_numpy()

        yield f"IVF_PQ nprobes={probes} refine={refine}", search


def milvus_lite(vectors: Vectors, folder: Path) -> Efforts:
    """Milvus as a library: HNSW."""
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(str(folder / "milvus.db"))
    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field(
        "vector",
        DataType.FLOAT_VECTOR,
        dim=EMBEDDING_SIZE,
    )
    wanted = client.prepare_index_params()
    wanted.add_index(
        "vector",
        index_type="HNSW",
        metric_type="IP",
        params={"M": 16, "efConstruction": 200},
    )
    client.create_collection(
        "vectors",
        schema=schema,
        index_params=wanted,
    )
    for start in range(0, len(vectors), 5_000):
        block = vectors[start : start + 5_000]
        client.insert(
            "vectors",
            [{"id": start + row, "vector": vector} for row, vector in enumerate(block)],
        )

    client.flush("vectors")  # before that nothing is indexed
    client.load_collection("vectors")
    for effort in (32, 64, 128, 256, 512):

        def search(query: Vectors, effort: int = effort) -> NDArray[np.int64]:
            hits = client.search(
                "vectors",
                query,
                limit=HITS,
                search_params={"params": {"ef": effort}},
            )
            return np.array([hit["id"] for hit in hits[0]])

        yield f"HNSW M=16 ef={effort}", search


def faiss_plain(vectors: Vectors, _folder: Path) -> Efforts:
    """Plain FAISS with our index's lists and codes, reranked from float32 in memory."""
    faiss.omp_set_num_threads(1)
    lists = int(np.sqrt(2 * len(vectors)))
    index = faiss.index_factory(
        EMBEDDING_SIZE,
        f"IVF{lists},PQ{EMBEDDING_SIZE}x4fsr,RFlat",
        faiss.METRIC_INNER_PRODUCT,
    )
    sample = np.random.default_rng(0).permutation(len(vectors))[: 64 * lists]
    index.train(vectors[np.sort(sample)])
    for start in range(0, len(vectors), 50_000):
        index.add(vectors[start : start + 50_000])
    for probes, factor in (
        (2, 3.2),
        (2, 4.8),
        (4, 4.8),
        (8, 6.4),
        (16, 9.6),
        (64, 12.8),
        (256, 25.6),
    ):
        parameters = faiss.IndexRefineSearchParameters(
            k_factor=factor,
            base_index_params=faiss.SearchParametersIVF(nprobe=probes),
        )
        yield (
            f"nprobe={probes} candidates={HITS * factor:.0f}",
            lambda query, parameters=parameters: index.search(
                query, HITS, params=parameters
            )[1][0],
        )


def faiss_flat(vectors: Vectors, _folder: Path) -> Efforts:
    """Every vector is compared."""
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(EMBEDDING_SIZE)
    index.add(vectors)
    yield "exact", lambda query: index.search(query, HITS)[1][0]


ENGINES: dict[str, Callable[[Vectors, Path], Efforts]] = {
    "precis": precis,
    "hnswlib": hnswlib,
    "usearch": usearch,
    "lancedb": lancedb,
    "milvus_lite": milvus_lite,
    "faiss_plain": faiss_plain,
    "faiss_flat": faiss_flat,
}
_PACKAGES = {
    "precis": "precis",
    "milvus_lite": "milvus-lite",
    "faiss_plain": "faiss-cpu",
    "faiss_flat": "faiss-cpu",
}
_OWN_OVERHEAD = 1.1  # of our index over plain FAISS


def measured(name: str, folder: Path, recall: float) -> dict[str, Any]:
    """Builds one engine and raises its effort; runs in a process of its own."""
    vectors: Vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    queries = np.load(folder / "queries.npy")
    nearest = np.load(folder / "true.npy")
    before = anonymous_bytes()
    place = folder / name
    place.mkdir()
    efforts = ENGINES[name](vectors, place)
    result: dict[str, Any] = {}

    def raise_effort() -> bool:
        step = next(efforts, None)
        if step is not None:
            result["settings"], result["search"] = step
        return step is not None

    result["build_s"] = seconds(raise_effort)
    result["bytes_a_vector"] = (anonymous_bytes() - before) / len(vectors)
    while True:
        answers, _ = answered(result["search"], queries, RECALL_S)
        result["recall"] = recall_of(answers, nearest)
        if result["recall"] >= recall or not raise_effort():
            break
    rounds = [answered(result["search"], queries, ROUND_S) for _ in range(ROUNDS)]
    result["queries_a_second"] = 1 / median(taken_s for _, taken_s in rounds)
    del result["search"]
    return result


def recall_of(
    answers: Sequence[NDArray[np.int64]], nearest: NDArray[np.int64]
) -> float:
    """The share of the nearest HITS that the answers have; `nearest` may have more queries."""
    shares = []
    for answer, true in zip(answers, nearest, strict=False):
        shares.append(len(set(answer.tolist()) & set(true.tolist())) / HITS)
    return float(np.mean(shares))


def answered(
    search: Search,
    queries: Vectors,
    limit_s: float,
) -> tuple[list[NDArray[np.int64]], float]:
    """Answers to as many queries as the time allows, one at least, and the seconds of a query."""
    answers: list[NDArray[np.int64]] = []
    start = time.perf_counter()
    for query in queries[:, np.newaxis]:
        answers.append(search(query))
        taken = time.perf_counter() - start
        if taken > limit_s:
            break
    return answers, taken / len(answers)


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind (Linux)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(
        int(line.split()[1]) for line in lines if line.startswith("Anonymous:")
    )


def real_embeddings() -> Vectors:
    """(about 1,000, E) embeddings of the names that the default model knows."""
    texts = [f"a photo of a {name}" for name in dict.fromkeys(class_names())]
    return text_embeddings(load().summary_model, texts)


def extended(real: Vectors, count: int, seed: int) -> Vectors:
    """(count, E) unit vectors around the real ones."""
    random = np.random.default_rng(seed)
    made = np.empty((count, EMBEDDING_SIZE), np.float32)
    for start in range(0, count, 50_000):
        block = made[start : start + 50_000]
        noise = random.standard_normal(block.shape, dtype=np.float32)
        noise *= SPREAD / np.linalg.norm(noise, axis=1, keepdims=True)
        block[:] = real[random.integers(len(real), size=len(block))] + noise
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return made


def run(
    *,
    vectors: int = 1_000_000,
    recall: float = 0.98,
    engines: tuple[str, ...] = tuple(ENGINES),
) -> None:
    """Measures the engines in turn and reports."""
    real = real_embeddings()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        queries, made = extended(real, QUERIES, 1), extended(real, vectors, 0)
        for start in range(0, vectors, 50_000):
            made[start : start + 50_000] = round_to_int8(made[start : start + 50_000])
        flat = faiss.IndexFlatIP(EMBEDDING_SIZE)
        flat.add(made)
        _, nearest = flat.search(queries, HITS)
        np.save(folder / "true.npy", nearest)
        np.save(folder / "vectors.npy", made)
        np.save(folder / "queries.npy", queries)
        del flat, made
        spawn = multiprocessing.get_context("spawn")
        for engine in engines:
            with spawn.Pool(1) as pool:
                results[engine] = pool.apply(measured, (engine, folder, recall))
            Console().print(engine, results[engine])
    _report(results, vectors, recall)


def _report(
    results: dict[str, dict[str, Any]],
    vectors: int,
    recall: float,
) -> None:
    table = Table(
        "engine",
        "version",
        "settings",
        "recall@10",
        "queries/s",
        "bytes/vector",
        "build s",
    )
    for engine, result in results.items():
        table.add_row(
            engine,
            version(_PACKAGES.get(engine, engine)),
            result["settings"],
            f"{result['recall']:.3f}",
            f"{result['queries_a_second']:,.0f}",
            f"{result['bytes_a_vector']:,.0f}",
            f"{result['build_s']:.0f}",
        )
    Console().print(table)
    own = results["precis"]
    figures = [
        Figure("vectors", vectors),
        Figure("recall", own["recall"], at_least=recall),
        Figure(
            "bytes_a_vector",
            own["bytes_a_vector"],
            at_most=EMBEDDING_SIZE,
        ),
    ]
    for engine, result in results.items():
        if engine == "precis":
            continue
        # An engine that misses the recall is quick for another reason, and a full scan is no peer.
        bar = 1.0 if result["recall"] >= recall and engine != "faiss_flat" else None
        if engine == "faiss_plain" and bar:
            bar = 1 / _OWN_OVERHEAD
        ratio = own["queries_a_second"] / result["queries_a_second"]
        figures.append(
            Figure(
                f"queries_a_second_over_{engine}",
                ratio,
                at_least=bar,
            )
        )
    report("search_peers", figures)


@click.command()
@click.option(
    "--vectors",
    default=1_000_000,
    show_default=True,
)
@click.option("--recall", default=0.98, show_default=True)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(list(ENGINES)),
    help="Beside ours; all if left out.",
)
def main(vectors: int, recall: float, engines: tuple[str, ...]) -> None:
    """Compare with other engines."""
    run(
        vectors=vectors,
        recall=recall,
        engines=("precis", *engines) if engines else tuple(ENGINES),
    )


if __name__ == "__main__":
    main()
