"""Routes of jobs: uploads that are worked on after their answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status

from service.dependencies import READ, WRITE, GuardedRoute, RuntimeOf
from service.errors import JobNotFound
from service.jobs import Job
from service.runtime import Runtime
from service.schemas import JobBody

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=GuardedRoute)

Collection = Annotated[
    str | None, Query(max_length=63, description="Collection of the upload, if any.")
]


@router.get("/{job_id}", dependencies=[READ])
def get_job(runtime: RuntimeOf, job_id: str, collection: Collection = None) -> JobBody:
    """Where a job stands, and what became of each file. Kept for a week after its end."""
    return JobBody.of(_job(runtime, job_id, collection))


@router.delete(
    "/{job_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=[WRITE]
)
def cancel_job(runtime: RuntimeOf, job_id: str, collection: Collection = None) -> None:
    """Cancel what still waits of a job; images that are stored by now remain."""
    runtime.jobs.cancel(_job(runtime, job_id, collection).id)


def _job(runtime: Runtime, job_id: str, collection: str | None) -> Job:
    job = runtime.jobs.get(job_id)
    # A key for one collection must not learn of the jobs of another.
    if job is None or job.collection != collection:
        raise JobNotFound(f"There is no job {job_id}.")
    return job
