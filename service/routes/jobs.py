"""Routes of jobs: uploads and imports that are worked on after their answer."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response, status

from index.collections import check_name
from service.dependencies import (
    READ,
    WRITE,
    CollectionInQuery,
    GuardedRoute,
    JobInPath,
    RuntimeOf,
    ServicesOf,
    require_content_type,
)
from service.errors import JobNotFound
from service.jobs import MAX_FILES, Job
from service.runtime import Runtime
from service.schemas.base import MAX_LIMIT
from service.schemas.jobs import ImportInput, JobBody, JobsBody
from service.use_cases.metadata import checked_metadata

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=GuardedRoute)


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[WRITE, require_content_type("application/json")],
)
def import_pictures(
    services: ServicesOf,
    runtime: RuntimeOf,
    request: Request,
    response: Response,
    body: ImportInput,
    collection: CollectionInQuery = None,
) -> JobBody:
    """Import pictures from the service's own disk, in a job.

    If a job for the same is not finished, it is that one.
    """
    services.ingest.check_tokens([body.tokens])
    metadata = checked_metadata(body.metadata)
    job = runtime.jobs.add_import(collection, body.path, metadata, body.tokens)
    response.headers["Location"] = job_address(request, job.id, collection)
    return JobBody.of(job)


@router.get("", dependencies=[READ])
def list_jobs(
    runtime: RuntimeOf,
    collection: CollectionInQuery = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="most jobs to return")
    ] = 50,
    cursor: Annotated[
        str | None,
        Query(max_length=2000, description="`next_cursor` of the page before"),
    ] = None,
) -> JobsBody:
    """The jobs of a collection, newest first, a page at a time, without their files."""
    _check_name(collection)
    return JobsBody.of(runtime.jobs.page(collection, cursor, limit))


@router.get("/{job_id}", dependencies=[READ])
def get_job(
    runtime: RuntimeOf,
    job_id: JobInPath,
    collection: CollectionInQuery = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_FILES, description="most files to return")
    ] = MAX_FILES,
    offset: Annotated[
        int, Query(ge=0, le=2**63 - 1, description="how many files to leave out")
    ] = 0,
) -> JobBody:
    """Where a job stands, and what became of each file. Kept for a week after its end."""
    return JobBody.of(_job(runtime, job_id, collection, offset, limit))


@router.delete(
    "/{job_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=[WRITE]
)
def cancel_job(
    runtime: RuntimeOf, job_id: JobInPath, collection: CollectionInQuery = None
) -> None:
    """Cancel the rest of a job; images that are already stored remain."""
    runtime.jobs.cancel(_job(runtime, job_id, collection).id)


def job_address(request: Request, job_id: str, collection: str | None) -> str:
    """Where a job can be looked at."""
    query = "" if collection is None else f"?collection={quote(collection)}"
    return f"{request.scope.get('root_path', '')}/jobs/{job_id}{query}"


def _job(
    runtime: Runtime,
    job_id: str,
    collection: str | None,
    offset: int = 0,
    limit: int = MAX_FILES,
) -> Job:
    _check_name(collection)
    job = runtime.jobs.get(job_id, offset, limit)
    # A key for one collection must not learn of the jobs of another.
    if job is None or job.collection != collection:
        raise JobNotFound(f"There is no job {job_id}.")
    return job


def _check_name(collection: str | None) -> None:
    # Jobs outlive their collection, so nothing here opens it and finds the name wrong.
    if collection is not None:
        check_name(collection)
