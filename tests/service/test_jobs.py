"""The file of jobs."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from index.errors import InvalidCursor, StoreTooNew
from service.jobs import FILE_NAME, KEPT_MS, FileOutcome, Import, Job, JobStore
from service.use_cases.import_source import Place
from service.use_cases.ingest import Upload

MANY = 10**6
CREATED = FileOutcome("created", image_id="a")


def upload(data: bytes = b"data") -> Upload:
    return Upload("a.png", io.BytesIO(data), {"é": [1]}, tokens=2)


def test_a_job_is_read_back_as_it_was_added(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path, MANY)) as store:
        added = store.add("pets", [upload(), upload(b"more")])
        assert store.get(added.id) == added
    with closing(JobStore(tmp_path, MANY)) as store:
        assert store.next() == replace(added, files=[])
        first, second = store.waiting(added.id, 9)
        assert (first.number, second.number) == (0, 1)
        assert second.upload.file.read() == b"more"
        assert second.upload.metadata == {"é": [1]}
        assert second.upload.tokens == 2
        assert [file.number for file in store.waiting(added.id, 1)] == [0]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9])
def test_pages_have_every_job_of_a_collection_once_newest_first(
    tmp_path: Path, limit: int
) -> None:
    with closing(JobStore(tmp_path, MANY)) as store:
        added = []
        for number in range(4):
            added.append(store.add("pets", [upload()]))
            store.add(None if number % 2 else "cars", [upload()])
        listed: list[Job] = []
        cursor = None
        while True:
            page = store.page("pets", cursor, limit)
            listed += page.jobs
            assert len(page.jobs) <= limit
            if page.next_cursor is None:
                break
            assert len(page.jobs) == limit
            cursor = page.next_cursor
            # What comes meanwhile is newer than all that is still to come.
            store.add("pets", [upload()])
        assert listed == [replace(job, files=[]) for job in reversed(added)]


def test_a_page_of_uploads_and_imports_is_one_query(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path, MANY)) as store:
        waiting = store.add(None, [upload(), upload()])
        half_done = store.add(None, [upload(), upload()])
        store.note(half_done.id, {1: CREATED}, busy_s=1)
        imported = store.add_import(None, "trip", {"a": 1}, None)
        failed = FileOutcome("failed", error={"title": "damaged"})
        outcomes = [("a.png", CREATED), ("b.png", failed)]
        store.note_import(imported.id, outcomes, Place(("trip", "b.png")), busy_s=1)
        queries: list[str] = []
        store._file.set_trace_callback(queries.append)
        jobs = store.page(None, None, 9).jobs
        store._file.set_trace_callback(None)
        assert len(queries) == 1
        newest_first = [imported, half_done, waiting]
        assert jobs == [store.get(job.id, limit=0) for job in newest_first]
        assert [job.counts for job in jobs] == [
            {"created": 1, "failed": 1},
            {"created": 1, "waiting": 1},
            {"waiting": 2},
        ]


def test_a_cursor_outlives_the_job_that_it_is_behind(tmp_path: Path) -> None:
    now_s = 1e9
    with closing(JobStore(tmp_path, MANY, lambda: now_s)) as store:
        waiting = store.add(None, [upload()])
        finished = store.add(None, [upload()])
        store.note(finished.id, {0: CREATED}, busy_s=1)
        cursor = store.page(None, None, 1).next_cursor
        now_s += KEPT_MS / 1000 + 1
        store.add("pets", [upload()])
        assert store.get(finished.id) is None
        (job,) = store.page(None, cursor, 1).jobs
        assert job.id == waiting.id


@pytest.mark.parametrize("cursor", ["", "a", "AAAA", "é"])
def test_what_is_no_cursor_is_refused(tmp_path: Path, cursor: str) -> None:
    with (
        closing(JobStore(tmp_path, MANY)) as store,
        pytest.raises(InvalidCursor),
    ):
        store.page(None, cursor, 1)


def test_a_job_ends_with_its_last_file(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path, MANY)) as store:
        id_ = store.add(None, [upload(), upload()]).id
        store.begin(id_)
        failed = FileOutcome("failed", error={"status": 415})
        store.note(id_, {1: failed}, busy_s=1.5)
        job = store.next()
        assert job is not None
        assert (job.state, job.busy_s) == ("running", 1.5)
        store.note(id_, {0: CREATED}, busy_s=0.5)
        assert store.next() is None
        job = store.get(id_)
        assert job is not None
        assert (job.state, job.busy_s) == ("done", 2.0)
        assert [file.outcome for file in job.files] == [CREATED, failed]


def test_a_file_in_work_at_a_cancellation_tells_what_became_of_it(
    tmp_path: Path,
) -> None:
    with closing(JobStore(tmp_path, MANY)) as store:
        id_ = store.add(None, [upload(), upload()]).id
        store.begin(id_)
        store.cancel(id_)
        store.note(id_, {0: CREATED}, busy_s=1)
        store.cancel(id_)
        job = store.get(id_)
        assert job is not None
        assert job.state == "cancelled"
        statuses = [file.outcome and file.outcome.status for file in job.files]
        assert statuses == ["created", "cancelled"]


def test_done_files_give_their_space_back(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path, 10 * MANY)) as store:
        content = bytes(range(256)) * 4000
        id_ = store.add(None, [upload(content)]).id
        store.note(id_, {0: CREATED}, busy_s=1)
        # The write-ahead log too, while the store is open.
        sizes = [path.stat().st_size for path in tmp_path.glob(f"{FILE_NAME}*")]
    assert sum(sizes) < len(content) / 5


def test_old_jobs_are_forgotten(tmp_path: Path) -> None:
    now_s = 1_700_000_000.0
    with closing(JobStore(tmp_path, MANY, now=lambda: now_s)) as store:
        done, waiting = (store.add(None, [upload()]).id for _ in range(2))
        store.note(done, {0: CREATED}, busy_s=1)
        now_s += KEPT_MS / 1000 + 1
        store.add(None, [upload()])
        assert store.get(done) is None
        assert store.get(waiting) is not None


def test_an_import_is_read_back_as_far_as_it_is(tmp_path: Path) -> None:
    failed = FileOutcome("failed", error={"status": 415})
    with closing(JobStore(tmp_path, MANY)) as store:
        added = store.add_import("pets", "a/b", {"é": 1}, 2)
        assert store.add_import("pets", "a/b", {"é": 1}, 2) == added
        assert store.add_import(None, "a/b", {"é": 1}, 2).id != added.id
        id_ = added.id
        store.begin(id_)
        store.note_count(id_, 5, {"hidden": 1})
        store.note_import(id_, [("x", CREATED), ("y", failed)], Place(("a",), 1), 1.5)
        store.note_import(id_, [("z", failed)], Place(("a", "b")), 0.5)
    with closing(JobStore(tmp_path, MANY)) as store:
        job = store.get(id_)
        assert job is not None
        imported = job.imported
        assert imported == Import(
            "a/b", {"é": 1}, 2, 5, {"hidden": 1}, Place(("a", "b"))
        )
        assert (job.state, job.busy_s) == ("running", 2.0)
        assert job.counts == {"created": 1, "failed": 2, "waiting": 2}
        assert [file.filename for file in job.files] == ["y", "z"]
        later = store.get(id_, offset=1)
        assert later is not None
        assert [file.filename for file in later.files] == ["z"]
        store.finish_import(id_)
        assert store.add_import("pets", "a/b", {"é": 1}, 2).id != id_


def test_a_cancelled_import_has_the_rest_cancelled(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path, MANY)) as store:
        id_ = store.add_import(None, ".", {}, None).id
        store.note_count(id_, 3, {})
        store.note_import(id_, [("x", CREATED)], Place(("x",)), 1.0)
        store.cancel(id_)
        job = store.get(id_)
        assert job is not None
        assert (job.state, job.counts) == ("cancelled", {"created": 1, "cancelled": 2})
        assert store.next() is None


def test_a_finished_import_cannot_be_cancelled(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path, MANY)) as store:
        id_ = store.add_import(None, ".", {}, None).id
        store.finish_import(id_)
        store.cancel(id_)
        job = store.get(id_)
        assert job is not None
        assert job.state == "done"


def test_a_file_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path, MANY)) as store:
        id_ = store.add(None, [upload()]).id
    # What version 2 added is one table.
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
        file.executescript("DROP TABLE imports; PRAGMA user_version = 1")
    with closing(JobStore(tmp_path, MANY)) as store:
        assert store.get(id_) is not None
        assert store.add_import(None, ".", {}, None).imported is not None


def test_a_later_version_is_left_alone(tmp_path: Path) -> None:
    JobStore(tmp_path, MANY).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
        file.execute("PRAGMA user_version = 3")
    with pytest.raises(StoreTooNew):
        JobStore(tmp_path, MANY)
