"""The index that grows: right before, during and after it changes its structure."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

from index.vectors.auto_index import AutoIndex
from index.vectors.int8_vectors import Int8Vectors
from index.vectors.ivf_index import IvfPqIndex
from index.vectors.numpy_index import NumpyIndex
from tests.index.samples import rows_of

E = 32


def clustered(seed: int, count: int) -> np.ndarray:
    """Directions in clusters, as embeddings of a model are (count, E)."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, E))
    vectors = centres[random.integers(40, size=count)] + 0.7 * random.normal(size=(count, E))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def recall(
    index: AutoIndex, reference: NumpyIndex, queries: np.ndarray, allowed: np.ndarray | None = None
) -> float:
    _, got = index.search(queries, 10, allowed)
    _, expected = reference.search(queries, 10, allowed)
    return float(
        np.mean(
            [len(np.intersect1d(a, b)) / (b >= 0).sum() for a, b in zip(got, expected, strict=True)]
        )
    )


@pytest.fixture
def pair() -> tuple[AutoIndex, NumpyIndex]:
    """5,000 vectors in an index that has grown, and in the reference."""
    index, reference = AutoIndex(E, exact_up_to=2_000), NumpyIndex(E)
    rows, vectors = np.arange(1, 5_001), clustered(0, 5_000)
    index.add(rows, vectors)
    reference.add(rows, vectors)
    index.wait()
    assert not index.exact
    return index, reference


def test_is_exact_while_small() -> None:
    index = AutoIndex(E, exact_up_to=100)
    index.add(np.arange(100), clustered(0, 100))
    index.wait()
    assert index.exact


def test_finds_nearly_all_after_growing(pair: tuple[AutoIndex, NumpyIndex]) -> None:
    index, reference = pair
    assert np.array_equal(index.rows(), reference.rows())
    assert recall(index, reference, clustered(1, 100)) > 0.97
    scores, rows = index.search(clustered(0, 5_000)[:3], 1)
    assert rows[:, 0].tolist() == [1, 2, 3]
    assert scores[:, 0] == pytest.approx([1, 1, 1], abs=5e-3)


def test_a_query_finds_alone_what_it_finds_in_a_batch() -> None:
    """Lists so small that one probed list seldom holds enough: widening for one query must not
    serve the others.
    """
    random = np.random.default_rng(3)
    vectors = random.normal(size=(5_000, E)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = AutoIndex(E, exact_up_to=2_000)
    index.add(np.arange(5_000), vectors)
    index.wait()
    queries = clustered(5, 60)
    _, together = index.search(queries, 10)
    alone = np.concatenate([index.search(query[None], 10)[1] for query in queries])
    assert np.array_equal(together, alone)
    reference = NumpyIndex(E)
    reference.add(np.arange(5_000), vectors)
    _, truth = reference.search(queries, 10)
    assert (
        np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(alone, truth, strict=True)]) > 0.95
    )


@pytest.mark.parametrize("count", [1, 20, 4_900])
def test_filters_few_and_many(
    pair: tuple[AutoIndex, NumpyIndex], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, reference = pair
    allowed = np.random.default_rng(2).choice(5_000, size=count, replace=False) + 1
    assert recall(index, reference, clustered(1, 50), allowed) > 0.97
    monkeypatch.setattr(
        "index.vectors.ivf_index._MAX_ALLOWED_EXACT", 0
    )  # through the lists, however few
    assert recall(index, reference, clustered(1, 50), allowed) > 0.97


def test_goes_on_changing_after_growing(pair: tuple[AutoIndex, NumpyIndex]) -> None:
    index, reference = pair
    random = np.random.default_rng(3)
    for step in range(20):
        gone = random.choice(5_000, size=20, replace=False) + 1
        assert index.remove(gone) == reference.remove(gone)
        rows = np.unique(
            np.concatenate([random.choice(5_000, size=5) + 1, 6_000 + 10 * step + np.arange(10)])
        )
        vectors = clustered(100 + step, len(rows))
        index.add(rows, vectors)
        reference.add(rows, vectors)
        assert (
            index.search(vectors, 1)[1][:, 0].tolist()
            == reference.search(vectors, 1)[1][:, 0].tolist()
        )
        assert not np.isin(index.search(clustered(step, 5), 50)[1], np.setdiff1d(gone, rows)).any()
    assert np.array_equal(index.rows(), reference.rows())
    assert recall(index, reference, clustered(1, 100)) > 0.97


def test_fills_up_where_there_are_fewer(pair: tuple[AutoIndex, NumpyIndex]) -> None:
    index, _ = pair
    assert (index.search(clustered(1, 2), 6_000)[1] >= 0).sum(axis=1).tolist() == [5_000, 5_000]
    assert index.search(clustered(1, 2), 5, allowed=rows_of())[1].tolist() == [[-1] * 5] * 2
    assert index.search(clustered(1, 0), 5)[1].shape == (0, 5)
    index.remove(np.arange(1, 5_001))
    assert len(index) == 0
    assert index.search(clustered(1, 1), 2)[1].tolist() == [[-1, -1]]


def test_a_snapshot_is_mapped_and_goes_on(
    pair: tuple[AutoIndex, NumpyIndex], tmp_path: Path
) -> None:
    index, reference = pair
    index.remove(np.arange(1, 50))
    reference.remove(np.arange(1, 50))
    index.save(tmp_path / "snapshot")
    loaded = AutoIndex(E, exact_up_to=2_000)
    loaded.load(tmp_path / "snapshot")
    for one in (index, loaded):  # the one that wrote it now reads its vectors from it, too
        assert np.array_equal(one.rows(), reference.rows())
        assert np.array_equal(
            one.search(clustered(1, 20), 10)[1], index.search(clustered(1, 20), 10)[1]
        )
        one.add(rows_of(9_000), clustered(7, 1))
        assert one.search(clustered(7, 1), 1)[1].tolist() == [[9_000]]
        assert one.remove(rows_of(60, 9_000)) == 2
        (tmp_path / "snapshot").unlink(missing_ok=True)  # the map outlives the name
    loaded.save(tmp_path / "again")
    again = AutoIndex(E, exact_up_to=2_000)
    again.load(tmp_path / "again")
    assert np.array_equal(again.rows(), loaded.rows())
    assert np.array_equal(
        again.search(clustered(1, 20), 10)[1], loaded.search(clustered(1, 20), 10)[1]
    )


def test_what_changes_during_a_build_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = threading.Event(), threading.Event()
    build = IvfPqIndex.build

    def held_up(*arguments: object) -> IvfPqIndex:
        started.set()
        assert go_on.wait(60)
        return build(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(IvfPqIndex, "build", held_up)
    index, reference = AutoIndex(E, exact_up_to=1_000), NumpyIndex(E)
    vectors = clustered(0, 1_500)
    for some in (index, reference):
        some.add(np.arange(1_200), vectors[:1_200])
    assert started.wait(60)
    for some in (index, reference):
        some.add(np.arange(1_200, 1_500), vectors[1_200:])
        some.remove(np.arange(0, 1_500, 3))
        some.add(rows_of(0, 3), vectors[[3, 0]])
    assert index.exact
    assert recall(index, reference, clustered(1, 20)) == 1
    go_on.set()
    index.wait()
    assert not index.exact
    assert np.array_equal(index.rows(), reference.rows())
    assert recall(index, reference, clustered(1, 50)) > 0.97


def test_what_outgrows_a_build_is_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on, sizes = threading.Event(), threading.Event(), []
    build = IvfPqIndex.build

    def held_up(pile: Int8Vectors, positions: np.ndarray) -> IvfPqIndex:
        sizes.append(len(positions))
        started.set()
        assert go_on.wait(60)
        return build(pile, positions)

    monkeypatch.setattr(IvfPqIndex, "build", held_up)
    index, reference = AutoIndex(E, exact_up_to=1_000), NumpyIndex(E)
    vectors = clustered(0, 20_000)
    index.add(np.arange(1_200), vectors[:1_200])
    assert started.wait(60)
    index.add(np.arange(1_200, 20_000), vectors[1_200:])
    index.remove(np.arange(10))
    reference.add(np.arange(10, 20_000), vectors[10:])
    go_on.set()
    index.wait()
    assert sizes == [1_200, 19_990]
    assert np.array_equal(index.rows(), reference.rows())
    assert recall(index, reference, clustered(1, 100)) > 0.97


def test_additions_without_end_do_not_outrun_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.vectors.auto_index._MAX_FINAL_REPLAY", 100)
    monkeypatch.setattr("index.vectors.auto_index._MAX_LOGGED_CHANGES", 1_000)
    index, reference = AutoIndex(E, exact_up_to=1_000), NumpyIndex(E)
    stop = threading.Event()

    def add_on() -> None:
        for start in itertools.count(1_200, 300):
            if stop.is_set() or start > 300_000:
                return
            rows, vectors = np.arange(start, start + 300), clustered(start, 300)
            reference.add(rows, vectors)
            index.add(rows, vectors)

    for some in (index, reference):
        some.add(np.arange(1_200), clustered(0, 1_200))
    adding = threading.Thread(target=add_on)
    adding.start()
    first = index._current
    while index._current is first:  # ends, for the builder is let catch up
        index.remove(rows_of(5))  # waits for nothing
        assert index.search(clustered(1, 1), 1)[1].shape == (1, 1)
    stop.set()
    adding.join()
    index.wait()
    reference.remove(rows_of(5))
    assert np.array_equal(index.rows(), reference.rows())
    assert len(index) < 300_000
    assert recall(index, reference, clustered(1, 50)) > 0.97


def test_grows_again_and_drops_the_dead(pair: tuple[AutoIndex, NumpyIndex]) -> None:
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


def test_two_builds_of_the_same_agree(pair: tuple[AutoIndex, NumpyIndex]) -> None:
    other = AutoIndex(E, exact_up_to=2_000)
    other.add(np.arange(1, 5_001), clustered(0, 5_000))
    other.wait()
    for one, two in zip(
        pair[0].search(clustered(1, 30), 10), other.search(clustered(1, 30), 10), strict=True
    ):
        assert np.array_equal(one, two)
