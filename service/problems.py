"""Every error as a problem (RFC 9457): one table for the errors of other packages, one handler for
all.

Knows nothing of who raises what. What is inside the service stays inside: a 5xx carries a title and
no detail.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from compressor.errors import CompressorError, RequestTooLong
from index.errors import (
    CollectionExists,
    CollectionMissing,
    InvalidCollectionName,
    InvalidCursor,
    InvalidFilter,
    InvalidMetadata,
    KeyInUse,
    KeyReused,
    LibraryError,
    RecordDamaged,
    StoreClosed,
    StoreFull,
    StoreReadOnly,
    WrongFingerprint,
)
from service.errors import NoImageStored, ServiceError, ShuttingDown

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:precis:problem:"

# Class of the error: status, kind, title. The nearest base class in the table counts.
FOREIGN: dict[type[Exception], tuple[int, str, str]] = {
    RequestTooLong: (422, "too-long-for-model", "Too long for the model"),
    CompressorError: (500, "model-failed", "The model failed"),
    InvalidCollectionName: (422, "bad-collection-name", "Not a name for a collection"),
    CollectionExists: (409, "collection-exists", "There is such a collection"),
    CollectionMissing: (404, "collection-missing", "No such collection"),
    KeyInUse: (409, "idempotency-key-in-use", "A request with this key is being worked on"),
    KeyReused: (422, "idempotency-key-reused", "This key was used for another request"),
    InvalidCursor: (422, "bad-cursor", "Not a cursor of this list"),
    InvalidFilter: (422, "bad-filter", "Not a filter"),
    InvalidMetadata: (422, "bad-metadata", "The metadata cannot be stored"),
    WrongFingerprint: (409, "wrong-fingerprint", "The image was compressed by another model"),
    StoreFull: (507, "store-full", "The store is full"),
    StoreReadOnly: (507, "store-read-only", "The store cannot be written"),
    StoreClosed: (ShuttingDown.status, ShuttingDown.kind, ShuttingDown.title),
    RecordDamaged: (500, "record-damaged", "The stored record is damaged"),
    LibraryError: (500, "library-failed", "The library failed"),
}


@dataclass(frozen=True)
class Problem:
    """One problem, ready to be sent."""

    status: int
    kind: str | None  # None: the status says it all
    title: str
    detail: str | None = None
    members: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON object."""
        kind = "about:blank" if self.kind is None else TYPE_PREFIX + self.kind
        body: dict[str, Any] = {"type": kind, "title": self.title, "status": self.status}
        if self.detail:
            body["detail"] = self.detail
        return body | self.members | {"request_id": request_id}


def problem_of(error: Exception) -> Problem:
    """The problem that an error is to the caller."""
    if isinstance(error, HTTPException) and isinstance(error.__cause__, ServiceError):
        error = error.__cause__  # the framework wraps what goes wrong while it reads a body
    if isinstance(error, ServiceError):
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        if error.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        detail = str(error) if error.status != HTTPStatus.INTERNAL_SERVER_ERROR else None
        return Problem(error.status, error.kind, error.title, detail, _members(error), headers)
    if isinstance(error, RequestValidationError):
        faults = [
            {"location": list(each["loc"]), "message": each["msg"]} for each in error.errors()
        ]
        detail = "; ".join(
            f"{'.'.join(map(str, each['location']))}: {each['message']}" for each in faults
        )
        return Problem(422, "invalid-input", "Invalid input", detail, {"errors": faults})
    if isinstance(error, HTTPException):
        title = HTTPStatus(error.status_code).phrase
        detail = error.detail if error.detail != title else None
        return Problem(error.status_code, None, title, detail, headers=dict(error.headers or {}))
    for base in type(error).__mro__:
        if base in FOREIGN:
            status, kind, title = FOREIGN[base]
            return Problem(
                status,
                kind,
                title,
                str(error) if status < HTTPStatus.INTERNAL_SERVER_ERROR else None,
            )
    return Problem(ServiceError.status, ServiceError.kind, ServiceError.title)


def _members(error: ServiceError) -> dict[str, Any]:
    if not isinstance(error, NoImageStored):
        return {}
    return {
        "images": [
            {"filename": file.filename, "status": "failed", "error": failure(file.error)}
            for file in error.failed
        ]
    }


def failure(error: ServiceError) -> dict[str, Any]:
    """Why one file of an upload failed, as a problem inside a response."""
    return {
        "type": TYPE_PREFIX + error.kind,
        "title": error.title,
        "status": error.status,
        "detail": str(error),
    }


def event_body(error: Exception, request_id: str) -> str:
    """The problem as the data of the event that ends a broken stream."""
    problem = problem_of(error)
    _log(problem, error, request_id)
    return json.dumps(problem.body(request_id))


def _log(problem: Problem, error: Exception, request_id: str) -> None:
    if (
        problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        and problem.status != HTTPStatus.SERVICE_UNAVAILABLE
    ):
        log.error("Request %s failed.", request_id, exc_info=error)


async def respond(request: Request, error: Exception) -> JSONResponse:
    """The one exception handler."""
    problem = problem_of(error)
    request_id: str = request.state.request_id
    _log(problem, error, request_id)
    return JSONResponse(
        problem.body(request_id),
        problem.status,
        headers={"X-Request-ID": request_id} | problem.headers,
        media_type=MEDIA_TYPE,
    )


def add_handler(app: FastAPI) -> None:
    """Registers the handler for everything that can be raised."""
    for error in (
        ServiceError,
        LibraryError,
        CompressorError,
        RequestValidationError,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(error, respond)
