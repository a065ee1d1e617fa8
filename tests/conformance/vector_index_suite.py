"""What every vector index promises.

The test class of an adapter derives from VectorIndexSuite and says how its index is made.
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

# Wide enough that the order in which an engine sums shows in its scores.
_LARGE_SIZE = 256

Results = tuple[NDArray[np.float32], NDArray[np.int64]]


def found_rows(
    index: VectorIndex, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> list[list[int]]:
    """The rows that each query finds, best first."""
    _, rows = index.search(queries, k, allowed)
    return rows.tolist()


class VectorIndexSuite:
    # Of scores. An index over int8 vectors has a larger one, and may swap near ties.
    tolerance = 1e-6

    def check(self, results: Results, expected: Results) -> None:
        """Scores and rows (Q, k) agree with the expected ones."""
        scores, rows = results
        expected_scores, expected_rows = expected
        assert np.array_equal(np.isneginf(scores), rows < 0)
        assert np.allclose(scores, expected_scores, atol=self.tolerance)
        for query_rows in rows:
            present = query_rows[query_rows >= 0]
            assert len(np.unique(present)) == len(present)
        if self.tolerance <= 1e-6:
            assert np.array_equal(rows, expected_rows)

    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        raise NotImplementedError

    @pytest.fixture
    def index(self) -> VectorIndex:
        return self.make()

    def test_finds_the_nearest_best_first(self, index: VectorIndex) -> None:
        rows = np.arange(100, 150)
        vectors = unit_vectors(0, 50)
        index.add(rows, vectors)
        queries = unit_vectors(1, 7)
        results = index.search(queries, 5)
        similarity = queries @ vectors.T
        best = np.argsort(-similarity, axis=1)[:, :5]
        expected_scores = np.take_along_axis(similarity, best, axis=1)
        assert results[0].dtype == np.float32
        assert results[1].dtype == np.int64
        self.check(results, (expected_scores, rows[best]))

    def test_pads_results_where_there_are_fewer(self, index: VectorIndex) -> None:
        queries = unit_vectors(1, 2)
        scores, rows = index.search(queries, 3)
        assert (rows == -1).all()
        assert np.isneginf(scores).all()
        assert rows.shape == scores.shape == (2, 3)
        index.add(rows_of(7), unit_vectors(0, 1))
        scores, rows = index.search(queries, 3)
        assert rows.tolist() == [[7, -1, -1]] * 2
        assert np.isfinite(scores[:, 0]).all()
        assert np.isneginf(scores[:, 1:]).all()

    def test_a_removed_row_is_gone_at_once(self, index: VectorIndex) -> None:
        vectors = unit_vectors(0, 30)
        index.add(np.arange(30), vectors)
        for row in range(29):
            assert index.remove(rows_of(row)) == 1
            (rows,) = found_rows(index, vectors[row : row + 1], 30)
            assert row not in rows
            assert len(index) == 29 - row
            assert index.rows().tolist() == list(range(row + 1, 30))
        assert index.remove(rows_of(3, 99)) == 0
        assert index.remove(rows_of()) == 0

    def test_a_row_that_is_present_is_replaced(self, index: VectorIndex) -> None:
        old = unit_vectors(0, 5)
        new = unit_vectors(1, 5)
        index.add(np.arange(5), old)
        index.add(rows_of(2, 9), new[:2])
        assert index.rows().tolist() == [0, 1, 2, 3, 4, 9]
        scores, rows = index.search(new[:1], 1)
        assert rows[0, 0] == 2
        assert scores[0, 0] == pytest.approx(1, abs=1e-5)
        scores, rows = index.search(old[2:3], 6)
        assert scores[rows == 2] < 0.999

    def test_a_removed_row_may_come_again(self, index: VectorIndex) -> None:
        vectors = unit_vectors(0, 40)
        index.add(np.arange(40), vectors)
        index.remove(rows_of(3))
        index.add(rows_of(3), vectors[3:4])
        assert len(index) == 40
        assert found_rows(index, vectors[3:4], 1) == [[3]]

    def test_searches_only_what_is_allowed(self, index: VectorIndex) -> None:
        vectors = unit_vectors(0, 40)
        index.add(np.arange(40), vectors)
        index.remove(rows_of(4))
        (rows,) = found_rows(index, vectors[:1], 10, rows_of(30, 4, 6, 1000))
        assert sorted(rows) == [-1] * 8 + [6, 30]
        assert found_rows(index, vectors[:1], 2, rows_of()) == [[-1, -1]]

    def test_agrees_with_the_reference_after_many_changes(
        self, index: VectorIndex
    ) -> None:
        random = np.random.default_rng(0)
        reference = NumpyIndex(EMBEDDING_SIZE)
        for step in range(60):
            rows = random.choice(200, size=random.integers(1, 20), replace=False)
            if random.random() < 0.4:
                assert index.remove(rows) == reference.remove(rows)
            else:
                vectors = unit_vectors(step, len(rows))
                index.add(rows, vectors)
                reference.add(rows, vectors)
            allowed = None
            if step % 2:
                allowed = random.choice(200, size=50, replace=False)
            queries = unit_vectors(1000 + step, 3)
            results = index.search(queries, 10, allowed)
            expected = reference.search(queries, 10, allowed)
            self.check(results, expected)
            assert np.array_equal(index.rows(), reference.rows())

    def test_equal_vectors_come_in_row_order_however_many_are_asked_for(self) -> None:
        index = self.make(_LARGE_SIZE)
        distinct = unit_vectors(0, 12, _LARGE_SIZE)
        rows = np.arange(300)
        vectors = distinct[rows % 12]
        index.add(rows, vectors)
        removed = rows[rows % 7 == 0]
        index.remove(removed)
        kept = np.setdiff1d(rows, removed)
        allowed = kept[kept % 3 != 0]
        queries = unit_vectors(1, 25, _LARGE_SIZE)
        order = np.argsort(-(queries[0] @ distinct.T))
        for eligible in (None, allowed):
            among = kept if eligible is None else eligible
            expected = [row for best in order for row in among[among % 12 == best]]
            for k in (1, 2, 3, 4, 5, 8, 9, 16, 17, 33):
                for count in (1, 2, 25):
                    (found, *_) = found_rows(index, queries[:count], k, eligible)
                    assert found == expected[:k]

    def test_refuses_to_add_what_is_no_vector(self, index: VectorIndex) -> None:
        not_a_number = np.full((1, EMBEDDING_SIZE), np.nan, dtype=np.float32)
        additions = [
            (rows_of(1), unit_vectors(0, 2)),
            (rows_of(1), unit_vectors(0, 1, EMBEDDING_SIZE + 1)),
            (rows_of(1, 1), unit_vectors(0, 2)),
            (rows_of(-1), unit_vectors(0, 1)),
            (rows_of(1), not_a_number),
        ]
        for rows, vectors in additions:
            with pytest.raises(InvalidVector):
                index.add(rows, vectors)
        assert len(index) == 0

    def test_refuses_a_query_that_is_no_vector(self, index: VectorIndex) -> None:
        query = unit_vectors(0, 1)
        not_a_number = np.full_like(query, np.nan)
        searches = [
            (unit_vectors(0, 1, 3), 1),
            (query[0], 1),
            (query, 0),
            (not_a_number, 1),
        ]
        for queries, k in searches:
            with pytest.raises(InvalidVector):
                index.search(queries, k)

    def test_a_snapshot_brings_everything_back(
        self, index: VectorIndex, tmp_path: Path
    ) -> None:
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

    def test_an_empty_index_has_a_snapshot_too(
        self, index: VectorIndex, tmp_path: Path
    ) -> None:
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
            for row in range(thread * 100, thread * 100 + 20):
                vector = unit_vectors(row, 1)
                index.add(rows_of(row), vector)
                assert row in found_rows(index, vector, 1)[0]
                if row % 2:
                    assert index.remove(rows_of(row)) == 1
                    assert row not in found_rows(index, vector, 20)[0]

        run_threads(8, work)
        kept: list[int] = []
        for thread in range(8):
            kept += range(thread * 100, thread * 100 + 20, 2)
        assert index.rows().tolist() == sorted(kept)
