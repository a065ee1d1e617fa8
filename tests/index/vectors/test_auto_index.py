"""The index that adapts to its size: right before, during and after it changes its structure."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

from index.ports import VectorIndex
from index.vectors.auto_index import AutoIndex
from index.vectors.int8_vectors import Int8Vectors
from index.vectors.ivf_index import IvfPqIndex
from index.vectors.numpy_index import NumpyIndex
from tests.index.samples import rows_of

E = 32
Pair = tuple[AutoIndex, NumpyIndex]


def clustered(seed: int, count: int) -> np.ndarray:
    """Directions in clusters, as embeddings of a model are (count, E)."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, E))
    clusters = random.integers(40, size=count)
    noise = 0.7 * random.normal(size=(count, E))
    vectors = centres[clusters] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def found(
    index: VectorIndex, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> np.ndarray:
    """The rows (Q, k) that queries find."""
    _, rows = index.search(queries, k, allowed)
    return rows


def recall(
    index: AutoIndex,
    reference: NumpyIndex,
    queries: np.ndarray,
    allowed: np.ndarray | None = None,
) -> float:
    """The share of the reference's ten nearest that the index finds."""
    rows = found(index, queries, 10, allowed)
    expected = found(reference, queries, 10, allowed)
    shares = []
    for query_rows, expected_rows in zip(rows, expected, strict=True):
        neighbours = expected_rows[expected_rows >= 0]
        hits = np.intersect1d(query_rows, neighbours)
        shares.append(len(hits) / len(neighbours))
    return float(np.mean(shares))


def add_to_both(pair: Pair, rows: np.ndarray, vectors: np.ndarray) -> None:
    for index in pair:
        index.add(rows, vectors)


def remove_from_both(pair: Pair, rows: np.ndarray) -> None:
    index, reference = pair
    assert index.remove(rows) == reference.remove(rows)


def assert_agrees(pair: Pair, *, at_least: float = 0.97, queries: int = 100) -> None:
    """Both have the same rows, and the index finds nearly all that the reference does."""
    index, reference = pair
    assert np.array_equal(index.rows(), reference.rows())
    assert recall(index, reference, clustered(1, queries)) > at_least


@pytest.fixture
def pair() -> Pair:
    """5,000 vectors in an index that has grown, and in the reference."""
    index = AutoIndex(E, exact_up_to=2_000)
    reference = NumpyIndex(E)
    add_to_both((index, reference), np.arange(1, 5_001), clustered(0, 5_000))
    index.wait()
    assert not index.exact
    return index, reference


class HeldUpBuild:
    """Builds that wait until they are let go on, and remember their sizes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._build = IvfPqIndex.build
        self._started = threading.Event()
        self._go_on = threading.Event()
        self.sizes: list[int] = []
        monkeypatch.setattr(IvfPqIndex, "build", self.build)

    def build(self, source: Int8Vectors, positions: np.ndarray) -> IvfPqIndex:
        self.sizes.append(len(positions))
        self._started.set()
        assert self._go_on.wait(60)
        return self._build(source, positions)

    def wait_for_start(self) -> None:
        assert self._started.wait(60)

    def let_go_on(self) -> None:
        self._go_on.set()


def test_is_exact_while_small() -> None:
    index = AutoIndex(E, exact_up_to=100)
    index.add(np.arange(100), clustered(0, 100))
    index.wait()
    assert index.exact


def test_finds_nearly_all_after_growing(pair: Pair) -> None:
    index, _ = pair
    assert_agrees(pair)
    scores, rows = index.search(clustered(0, 5_000)[:3], 1)
    assert rows[:, 0].tolist() == [1, 2, 3]
    assert scores[:, 0] == pytest.approx([1, 1, 1], abs=5e-3)


def test_a_query_finds_alone_what_it_finds_in_a_batch() -> None:
    """Widening for one query must not serve the others.

    The lists are so small that one probed list seldom holds enough.
    """
    random = np.random.default_rng(3)
    vectors = random.normal(size=(5_000, E)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = AutoIndex(E, exact_up_to=2_000)
    reference = NumpyIndex(E)
    add_to_both((index, reference), np.arange(5_000), vectors)
    index.wait()
    queries = clustered(5, 60)
    together = found(index, queries, 10)
    for query, rows in zip(queries, together, strict=True):
        assert np.array_equal(found(index, query[None], 10), [rows])
    assert recall(index, reference, queries) > 0.95


@pytest.mark.parametrize("count", [1, 20, 4_900])
def test_filters_few_and_many(
    pair: Pair, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    allowed = random.choice(5_000, size=count, replace=False) + 1
    queries = clustered(1, 50)
    assert recall(*pair, queries, allowed) > 0.97
    # Now through the lists, however few are allowed.
    monkeypatch.setattr("index.vectors.ivf_index._MAX_ALLOWED_EXACT", 0)
    assert recall(*pair, queries, allowed) > 0.97


def test_goes_on_changing_after_growing(pair: Pair) -> None:
    index, reference = pair
    random = np.random.default_rng(3)
    for step in range(20):
        removed = random.choice(5_000, size=20, replace=False) + 1
        remove_from_both(pair, removed)
        old_rows = random.choice(5_000, size=5) + 1
        new_rows = 6_000 + 10 * step + np.arange(10)
        rows = np.union1d(old_rows, new_rows)
        vectors = clustered(100 + step, len(rows))
        add_to_both(pair, rows, vectors)
        assert np.array_equal(found(index, vectors, 1), found(reference, vectors, 1))
        gone = np.setdiff1d(removed, rows)
        neighbours = found(index, clustered(step, 5), 50)
        assert not np.isin(neighbours, gone).any()
    assert_agrees(pair)


def test_pads_results_where_there_are_fewer(pair: Pair) -> None:
    index, _ = pair
    queries = clustered(1, 2)
    rows = found(index, queries, 6_000)
    assert (rows >= 0).sum(axis=1).tolist() == [5_000, 5_000]
    assert found(index, queries, 5, rows_of()).tolist() == [[-1] * 5] * 2
    assert found(index, clustered(1, 0), 5).shape == (0, 5)
    index.remove(np.arange(1, 5_001))
    assert len(index) == 0
    assert found(index, queries[:1], 2).tolist() == [[-1, -1]]


def load(path: Path) -> AutoIndex:
    index = AutoIndex(E, exact_up_to=2_000)
    index.load(path)
    return index


def test_a_snapshot_is_mapped_and_goes_on(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    written, reference = pair
    remove_from_both(pair, np.arange(1, 50))
    queries = clustered(1, 20)
    expected = found(written, queries, 10)
    written.save(path)
    loaded = load(path)
    path.unlink()  # the memory map outlives the name
    new_vector = clustered(7, 1)
    # The index that wrote the snapshot now reads its vectors from it as well.
    for index in (written, loaded):
        assert np.array_equal(index.rows(), reference.rows())
        assert np.array_equal(found(index, queries, 10), expected)
        index.add(rows_of(9_000), new_vector)
        assert found(index, new_vector, 1).tolist() == [[9_000]]
        assert index.remove(rows_of(60, 9_000)) == 2


def test_a_mapped_index_is_written_again(pair: Pair, tmp_path: Path) -> None:
    index, _ = pair
    index.save(tmp_path / "first")
    first = load(tmp_path / "first")
    first.remove(rows_of(60))
    first.save(tmp_path / "second")
    second = load(tmp_path / "second")
    queries = clustered(1, 20)
    assert np.array_equal(second.rows(), first.rows())
    assert np.array_equal(found(second, queries, 10), found(first, queries, 10))


def test_what_changes_during_a_build_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builds = HeldUpBuild(monkeypatch)
    index = AutoIndex(E, exact_up_to=1_000)
    pair = (index, NumpyIndex(E))
    vectors = clustered(0, 1_500)
    add_to_both(pair, np.arange(1_200), vectors[:1_200])
    builds.wait_for_start()
    add_to_both(pair, np.arange(1_200, 1_500), vectors[1_200:])
    remove_from_both(pair, np.arange(0, 1_500, 3))
    add_to_both(pair, rows_of(0, 3), vectors[[3, 0]])
    assert index.exact
    assert recall(*pair, clustered(1, 20)) == 1
    builds.let_go_on()
    index.wait()
    assert not index.exact
    assert_agrees(pair, queries=50)


def test_what_outgrows_a_build_is_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    builds = HeldUpBuild(monkeypatch)
    index = AutoIndex(E, exact_up_to=1_000)
    reference = NumpyIndex(E)
    vectors = clustered(0, 20_000)
    index.add(np.arange(1_200), vectors[:1_200])
    builds.wait_for_start()
    index.add(np.arange(1_200, 20_000), vectors[1_200:])
    index.remove(np.arange(10))
    reference.add(np.arange(10, 20_000), vectors[10:])
    builds.let_go_on()
    index.wait()
    assert builds.sizes == [1_200, 19_990]
    assert_agrees((index, reference))


def test_additions_without_end_do_not_outrun_a_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("index.vectors.auto_index._MAX_FINAL_REPLAY", 100)
    monkeypatch.setattr("index.vectors.auto_index._MAX_LOGGED_CHANGES", 1_000)
    index = AutoIndex(E, exact_up_to=1_000)
    reference = NumpyIndex(E)
    stop = threading.Event()

    def keep_adding() -> None:
        for start in itertools.count(1_200, 300):
            if stop.is_set() or start > 300_000:
                return
            rows = np.arange(start, start + 300)
            vectors = clustered(start, 300)
            reference.add(rows, vectors)
            index.add(rows, vectors)

    add_to_both((index, reference), np.arange(1_200), clustered(0, 1_200))
    adding = threading.Thread(target=keep_adding)
    adding.start()
    first = index._current
    query = clustered(1, 1)
    # This ends because additions wait once they are ahead of the builder.
    while index._current is first:
        # Neither of the two waits for the build.
        index.remove(rows_of(5))
        assert found(index, query, 1).shape == (1, 1)
    stop.set()
    adding.join()
    index.wait()
    reference.remove(rows_of(5))
    assert len(index) < 300_000
    assert_agrees((index, reference), queries=50)


def test_grows_again_and_drops_deleted_vectors(pair: Pair) -> None:
    index, _ = pair
    first = index._current
    index.add(np.arange(10_001, 10_001 + 15_500), clustered(5, 15_500))
    index.wait()
    second = index._current
    assert second is not first
    assert len(index) == 20_500
    index.remove(np.arange(10_001, 10_001 + 6_000))
    index.wait()
    third = index._current
    assert third is not second
    assert isinstance(third, IvfPqIndex)
    assert len(third) == len(third.vectors) == 14_500


def test_a_build_that_fails_leaves_the_index_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> IvfPqIndex:
        raise MemoryError

    monkeypatch.setattr(IvfPqIndex, "build", fail)
    index = AutoIndex(E, exact_up_to=100)
    index.add(np.arange(150), clustered(0, 150))
    index.wait()
    index.add(np.arange(150, 200), clustered(1, 50))
    index.wait()
    assert index.exact
    assert len(index) == 200
    assert caplog.text.count("could not be built") == 1


def test_two_builds_of_the_same_vectors_agree(pair: Pair) -> None:
    index, _ = pair
    other = AutoIndex(E, exact_up_to=2_000)
    other.add(np.arange(1, 5_001), clustered(0, 5_000))
    other.wait()
    queries = clustered(1, 30)
    scores, rows = index.search(queries, 10)
    other_scores, other_rows = other.search(queries, 10)
    assert np.array_equal(scores, other_scores)
    assert np.array_equal(rows, other_rows)
