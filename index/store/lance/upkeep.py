"""Keeps a dataset quick to read and free of what nobody needs any more.

Every commit adds a fragment, and a read opens all of them. They are put together as in a
log-structured merge tree: a fragment is rewritten only with newer ones that are as large as itself,
so that each line is rewritten a few times in its life.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import timedelta

import lance
from lance.commit import CommitConflictError
from lance.optimize import Compaction

from index.store.lance.errors import lance_errors

_MAX_FRAGMENTS = 8  # that are not full
_FULL_LINES = 16_384
_FULL_BYTES = 64 * 2**20
_MAX_GAPS = 0.1  # of the lines of a fragment
_INDEXED = ("id", "row")
_KEPT_REMOVALS = 100_000  # a process further behind compares all rows instead
_KEPT_VERSIONS = timedelta(hours=1)  # so that nobody's read loses its files
_CLEANUP_PERIOD_S = 600.0


class Upkeep:
    """Looks after one dataset on behalf of a writer."""

    def __init__(self, *, in_folder: bool) -> None:
        self._in_folder = in_folder
        self._next_cleanup_s = 0.0  # of the monotonic clock

    def tidy(self, dataset: lance.LanceDataset, last_removal: int) -> None:
        """Puts small fragments together if there are many; then indexes, drops what is old.

        `last_removal` is the number of the last removal in the dataset.

        Where a commit of another process comes between, the next call does it. Raises StoreError.
        """
        fragments = dataset.get_fragments()
        small = [each for each in fragments if not _is_full(each)]
        if len(small) <= _MAX_FRAGMENTS:
            return
        with lance_errors(), contextlib.suppress(CommitConflictError):
            # A handle of our own: what follows moves it on, under those who read.
            dataset = dataset.checkout_version(dataset.version)
            oldest_kept = last_removal - _KEPT_REMOVALS
            if oldest_kept > 0:
                dataset.delete(f"removal <= {oldest_kept}")
            _compact(dataset, in_folder=self._in_folder)
            dataset.checkout_latest()
            _index(dataset)
            self._clean_up(dataset)
        if self._in_folder:
            os.sync()

    def _clean_up(self, dataset: lance.LanceDataset) -> None:
        # It reads the manifest of every version there is.
        if time.monotonic() < self._next_cleanup_s:
            return
        self._next_cleanup_s = time.monotonic() + _CLEANUP_PERIOD_S
        # Tagged versions stay: they are backups.
        dataset.cleanup_old_versions(
            older_than=_KEPT_VERSIONS, error_if_tagged_old_versions=False
        )


def _compact(dataset: lance.LanceDataset, *, in_folder: bool) -> None:
    fragments = dataset.get_fragments()
    chosen = _newest(fragments)
    kept = [
        each.fragment_id
        for each in fragments
        if each.fragment_id not in chosen and not _has_gaps(each)
    ]
    options = {"target_rows_per_fragment": _FULL_LINES, "excluded_fragment_ids": kept}
    plan = Compaction.plan(dataset, options)
    rewritten = [task.execute(dataset) for task in plan.tasks]
    if rewritten:
        if in_folder:
            # Lance leaves it to the system when files reach the disk: the commit must be the last.
            os.sync()
        Compaction.commit(dataset, rewritten)


def _newest(fragments: list[lance.LanceFragment]) -> set[int]:
    """The newest fragments, back to the first that is larger than all behind it."""
    chosen: set[int] = set()
    lines = 0
    for fragment in reversed(fragments):
        is_larger = len(chosen) > _MAX_FRAGMENTS // 2 and fragment.physical_rows > lines
        if _is_full(fragment) or is_larger:
            break
        chosen.add(fragment.fragment_id)
        lines += fragment.physical_rows
    return chosen


def _is_full(fragment: lance.LanceFragment) -> bool:
    lines: int = fragment.physical_rows
    size = sum(file.file_size_bytes or 0 for file in fragment.data_files())
    return lines >= _FULL_LINES or size >= _FULL_BYTES


def _has_gaps(fragment: lance.LanceFragment) -> bool:
    """Whether so many lines were deleted or replaced that their bytes are worth getting rid of."""
    gaps: int = fragment.num_deletions
    lines: int = fragment.physical_rows
    return gaps > _MAX_GAPS * lines


def _index(dataset: lance.LanceDataset) -> None:
    """Indexes the full fragments that are not yet; small ones are quicker to read than an index."""
    full = {each.fragment_id for each in dataset.get_fragments() if _is_full(each)}
    if not full:
        return
    covered: dict[str, set[int]] = {}
    for index in dataset.describe_indices():
        fragments = [set(segment.fragment_ids) for segment in index.segments]
        covered[index.field_names[0]] = set().union(*fragments)
    for column in _INDEXED:
        if column not in covered:
            dataset.create_scalar_index(column, "BTREE")
    if any(not full <= fragments for fragments in covered.values()):
        dataset.optimize.optimize_indices()
