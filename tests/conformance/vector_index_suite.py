"""What every vector index promises. An adapter's test class derives from this one and says how it
is made.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index.errors import IndexDamaged, InvalidVector
from index.ports import VectorIndex
from index.vectors.numpy_index import NumpyIndex
from tests.index.samples import EMBEDDING_SIZE, rows_of, unit_vectors
from tests.threads import run_threads

Found = tuple[NDArray[np.float32], NDArray[np.int64]]


class VectorIndexSuite:
    # of scores; an index that keeps its vectors in eight bits says more, and may swap near ties
    tolerance = 1e-6

    def check(self, got: Found, expected: Found) -> None:
        """Scores and rows (Q, k) as they should be."""
        assert np.array_equal(np.isneginf(got[0]), got[1] < 0)
        assert np.allclose(got[0], expected[0], atol=self.tolerance)
        assert all(len(np.unique(rows[rows >= 0])) == (rows >= 0).sum() for rows in got[1])
        if self.tolerance <= 1e-6:
            assert np.array_equal(got[1], expected[1])

    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        raise NotImplementedError

    @pytest.fixture
    def index(self) -> VectorIndex:
        return self.make()

    def test_finds_the_nearest_best_first(self, index: VectorIndex) -> None:
        rows, vectors = np.arange(100, 150), unit_vectors(0, 50)
        index.add(rows, vectors)
        queries = unit_vectors(1, 7)
        scores, found = index.search(queries, 5)
        expected = queries @ vectors.T
        best = np.argsort(-expected, axis=1)[:, :5]
        assert found.dtype == np.int64
        assert scores.dtype == np.float32
        self.check((scores, found), (np.take_along_axis(expected, best, axis=1), rows[best]))

    def test_fills_up_where_there_are_fewer(self, index: VectorIndex) -> None:
        scores, found = index.search(unit_vectors(1, 2), 3)
        assert np.array_equal(found, np.full((2, 3), -1))
        assert np.array_equal(scores, np.full((2, 3), -np.inf))
        index.add(rows_of(7), unit_vectors(0, 1))
        scores, found = index.search(unit_vectors(1, 2), 3)
        assert found.tolist() == [[7, -1, -1]] * 2
        assert np.isfinite(scores[:, 0]).all()
        assert np.isneginf(scores[:, 1:]).all()

    def test_a_removed_row_is_gone_at_once(self, index: VectorIndex) -> None:
        vectors = unit_vectors(0, 30)
        index.add(np.arange(30), vectors)
        for row in range(29):
            assert index.remove(rows_of(row)) == 1
            _, found = index.search(vectors[row : row + 1], 30)
            assert row not in found
            assert len(index) == 29 - row
            assert index.rows().tolist() == list(range(row + 1, 30))
        assert index.remove(rows_of(3, 99)) == 0
        assert index.remove(rows_of()) == 0

    def test_a_row_that_is_there_is_replaced(self, index: VectorIndex) -> None:
        old, new = unit_vectors(0, 5), unit_vectors(1, 5)
        index.add(np.arange(5), old)
        index.add(rows_of(2, 9), new[:2])
        assert index.rows().tolist() == [0, 1, 2, 3, 4, 9]
        scores, found = index.search(new[:1], 1)
        assert found[0, 0] == 2
        assert scores[0, 0] == pytest.approx(1, abs=1e-5)
        scores, found = index.search(old[2:3], 6)
        assert scores[found == 2] < 0.999

    def test_a_removed_row_may_come_again(self, index: VectorIndex) -> None:
        vectors = unit_vectors(0, 40)
        index.add(np.arange(40), vectors)
        index.remove(rows_of(3))
        index.add(rows_of(3), vectors[3:4])
        assert len(index) == 40
        assert index.search(vectors[3:4], 1)[1].tolist() == [[3]]

    def test_searches_only_what_is_allowed(self, index: VectorIndex) -> None:
        vectors = unit_vectors(0, 40)
        index.add(np.arange(40), vectors)
        index.remove(rows_of(4))
        _, found = index.search(vectors[:1], 10, allowed=rows_of(30, 4, 6, 1000))
        assert sorted(found[0].tolist()) == [-1] * 8 + [6, 30]
        _, found = index.search(vectors[:1], 2, allowed=rows_of())
        assert found.tolist() == [[-1, -1]]

    def test_agrees_with_the_reference_after_many_changes(self, index: VectorIndex) -> None:
        random = np.random.default_rng(0)
        reference = NumpyIndex(EMBEDDING_SIZE)
        for step in range(60):
            rows = random.choice(200, size=random.integers(1, 20), replace=False).astype(np.int64)
            if random.random() < 0.4:
                assert index.remove(rows) == reference.remove(rows)
            else:
                vectors = unit_vectors(step, len(rows))
                index.add(rows, vectors)
                reference.add(rows, vectors)
            allowed = (
                random.choice(200, size=50, replace=False).astype(np.int64) if step % 2 else None
            )
            queries = unit_vectors(1000 + step, 3)
            self.check(index.search(queries, 10, allowed), reference.search(queries, 10, allowed))
            assert np.array_equal(index.rows(), reference.rows())

    def test_refuses_what_is_no_vector(self, index: VectorIndex) -> None:
        nan = np.full((1, EMBEDDING_SIZE), np.nan, dtype=np.float32)
        for rows, vectors in (
            (rows_of(1), unit_vectors(0, 2)),
            (rows_of(1), unit_vectors(0, 1, EMBEDDING_SIZE + 1)),
            (rows_of(1, 1), unit_vectors(0, 2)),
            (rows_of(-1), unit_vectors(0, 1)),
            (rows_of(1), nan),
        ):
            with pytest.raises(InvalidVector):
                index.add(rows, vectors)
        for queries, k in (
            (unit_vectors(0, 1, 3), 1),
            (unit_vectors(0, 1)[0], 1),
            (unit_vectors(0, 1), 0),
            (nan, 1),
        ):
            with pytest.raises(InvalidVector):
                index.search(queries, k)
        assert len(index) == 0

    def test_a_snapshot_brings_everything_back(self, index: VectorIndex, tmp_path: Path) -> None:
        vectors = unit_vectors(0, 30)
        index.add(np.arange(30), vectors)
        index.remove(rows_of(5, 6))
        index.save(tmp_path / "snapshot")
        other = self.make()
        other.add(rows_of(77), unit_vectors(3, 1))
        other.load(tmp_path / "snapshot")
        assert np.array_equal(other.rows(), index.rows())
        self.check(other.search(vectors, 9), index.search(vectors, 9))
        other.add(rows_of(31), unit_vectors(4, 1))
        other.remove(rows_of(0))
        assert len(other) == len(index)

    def test_an_empty_index_has_a_snapshot_too(self, index: VectorIndex, tmp_path: Path) -> None:
        index.save(tmp_path / "snapshot")
        other = self.make()
        other.load(tmp_path / "snapshot")
        assert len(other) == 0

    def test_every_flipped_byte_of_a_snapshot_is_found(
        self, index: VectorIndex, tmp_path: Path
    ) -> None:
        index.add(np.arange(3), unit_vectors(0, 3))
        path = tmp_path / "snapshot"
        index.save(path)
        whole = path.read_bytes()
        other = self.make()
        for position in range(len(whole)):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            with pytest.raises(IndexDamaged):
                other.load(path)
        assert len(other) == 0

    def test_a_snapshot_that_does_not_fit_is_refused(
        self, index: VectorIndex, tmp_path: Path
    ) -> None:
        path = tmp_path / "snapshot"
        index.add(rows_of(1), unit_vectors(0, 1))
        index.save(path)
        with pytest.raises(IndexDamaged):
            self.make(EMBEDDING_SIZE * 2).load(path)
        whole = path.read_bytes()
        for length in (0, 10, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(IndexDamaged):
                index.load(path)
        with pytest.raises(IndexDamaged):
            index.load(tmp_path / "missing")
        assert index.rows().tolist() == [1]

    def test_threads_change_and_search_side_by_side(self, index: VectorIndex) -> None:
        def work(thread: int) -> None:
            for n in range(thread * 100, thread * 100 + 20):
                vector = unit_vectors(n, 1)
                index.add(rows_of(n), vector)
                assert n in index.search(vector, 1)[1]
                if n % 2:
                    assert index.remove(rows_of(n)) == 1
                    assert n not in index.search(vector, 20)[1]

        run_threads(8, work)
        assert index.rows().tolist() == sorted(
            t * 100 + n for t in range(8) for n in range(0, 20, 2)
        )
