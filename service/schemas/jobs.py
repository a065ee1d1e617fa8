"""Bodies of jobs, and of the imports that begin them."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from service.jobs import Job, JobFile, JobPage
from service.schemas.base import FileProblem, Input, Text


class ImportInput(Input):
    """Pictures on the service's own disk to be imported."""

    path: Text = Field(
        min_length=1,
        max_length=4096,
        description="a picture, a folder, a tar or a Parquet file below "
        "PRECIS_IMPORT_DIR; `.` for "
        "all of it",
    )
    metadata: dict[str, Any] = Field(
        {},
        description="metadata for every picture; it wins over what is found beside a "
        "picture",
    )
    tokens: int | None = Field(
        None,
        ge=1,
        description="keep only the first so many summary tokens: one of the model's "
        "budgets",
    )


class JobFileBody(BaseModel):
    """A file of a job."""

    filename: str = Field(description="name of the file")
    status: Literal["waiting", "created", "exists", "failed", "cancelled"] = Field(
        description="`waiting`, or what became of the file"
    )
    id: str | None = Field(description="id of the image, once it is stored")
    error: FileProblem | None = Field(
        description="why the file failed; null unless it did"
    )

    @classmethod
    def of(cls, file: JobFile) -> Self:
        """From a file of a job."""
        outcome = file.outcome
        if outcome is None:
            return cls(filename=file.filename, status="waiting", id=None, error=None)
        error = None if outcome.error is None else FileProblem(**outcome.error)
        return cls(
            filename=file.filename,
            status=outcome.status,
            id=outcome.image_id,
            error=error,
        )


class JobSummaryBody(BaseModel):
    """A job without its files."""

    id: str = Field(description="id of the job")
    state: Literal["waiting", "running", "done", "cancelled"] = Field(
        description="`waiting` to begin, `running`, `done`, or `cancelled`"
    )
    path: str | None = Field(description="path of an import; null for an upload")
    created_at_ms: int = Field(
        description="when the job was accepted: Unix time in milliseconds"
    )
    started_at_ms: int | None = Field(
        description="when work on it began; null before that"
    )
    finished_at_ms: int | None = Field(description="when it ended; null before that")
    counts: dict[str, int] = Field(description="number of files by status")
    passed_over: dict[str, int] = Field(
        description="number of files of an import that are no pictures, by reason"
    )
    files_per_s: float | None = Field(
        description="files a second while the job was worked on; null before its "
        "first files"
    )
    remaining_s: float | None = Field(
        description="time for the waiting files at that rate; null while it is unknown"
    )

    @classmethod
    def of(cls, job: Job) -> Self:
        """From a job."""
        return cls(**_job_fields(job))


class JobBody(JobSummaryBody):
    """An upload or an import that is worked on after its answer."""

    files: list[JobFileBody] = Field(
        description="the files of an upload; for an import only those that failed"
    )

    @classmethod
    def of(cls, job: Job) -> Self:
        """From a job."""
        files = [JobFileBody.of(file) for file in job.files]
        return cls(files=files, **_job_fields(job))


class JobsBody(BaseModel):
    """A part of the list of jobs, newest first."""

    jobs: list[JobSummaryBody] = Field(description="the jobs of this page")
    next_cursor: str | None = Field(
        description="`cursor` of the next page; null on the last"
    )

    @classmethod
    def of(cls, page: JobPage) -> Self:
        """From a page of jobs."""
        jobs = [JobSummaryBody.of(job) for job in page.jobs]
        return cls(jobs=jobs, next_cursor=page.next_cursor)


def _job_fields(job: Job) -> dict[str, Any]:
    """What a job's bodies have in common."""
    counts = Counter(job.counts)
    worked_on = counts.total() - counts["waiting"] - counts["cancelled"]
    rate = worked_on / job.busy_s if job.busy_s else None
    imported = job.imported
    is_counted = imported is None or imported.total is not None
    return {
        "id": job.id,
        "state": job.state,
        "path": imported.path if imported else None,
        "created_at_ms": job.created_at_ms,
        "started_at_ms": job.started_at_ms,
        "finished_at_ms": job.finished_at_ms,
        "counts": job.counts,
        "passed_over": imported.passed_over if imported else {},
        "files_per_s": rate,
        "remaining_s": counts["waiting"] / rate if rate and is_counted else None,
    }
