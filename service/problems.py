"""Every error as a problem (RFC 9457): one table for the errors of other packages, one handler.

Internals stay inside: a 5xx carries a title and no detail.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.sse import format_sse_event
from starlette.exceptions import HTTPException

from compressor.errors import (
    CompressorError,
    ConstraintInvalid,
    EngineUnreachable,
    RequestTooLong,
)
from index.errors import (
    CollectionExists,
    CollectionMissing,
    InvalidCollectionName,
    InvalidCursor,
    InvalidFilter,
    InvalidMetadata,
    LibraryError,
    RecordDamaged,
    StoreAccessDenied,
    StoreBusy,
    StoreClosed,
    StoreFull,
    StoreReadOnly,
    StoreUnreachable,
    WrongFingerprint,
)
from service.errors import NoImageStored, ServiceError, ShuttingDown
from service.metrics import Metrics
from service.security_headers import SECURITY_HEADERS
from service.validation_faults import faults_of

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:precis:problem:"

# Status, kind and title of an error, by its nearest base class in the table.
FOREIGN: dict[type[Exception], tuple[int, str, str]] = {
    RequestTooLong: (422, "too-long-for-model", "Too long for the model"),
    ConstraintInvalid: (422, "bad-answer-format", "Not a form for answers"),
    EngineUnreachable: (
        503,
        "second-pass-unreachable",
        "The second pass does not answer",
    ),
    CompressorError: (500, "model-failed", "The model failed"),
    InvalidCollectionName: (422, "bad-collection-name", "Not a name for a collection"),
    CollectionExists: (409, "collection-exists", "There is such a collection"),
    CollectionMissing: (404, "collection-missing", "No such collection"),
    InvalidCursor: (422, "bad-cursor", "Not a cursor of this list"),
    InvalidFilter: (422, "bad-filter", "Not a filter"),
    InvalidMetadata: (422, "bad-metadata", "The metadata cannot be stored"),
    WrongFingerprint: (
        409,
        "wrong-fingerprint",
        "The image was compressed by another model",
    ),
    StoreFull: (507, "store-full", "The store is full"),
    StoreReadOnly: (507, "store-read-only", "The store cannot be written"),
    StoreUnreachable: (503, "store-unreachable", "The store does not answer"),
    StoreAccessDenied: (503, "store-access-denied", "The store gives no access"),
    StoreBusy: (503, "store-busy", "The store is busy"),
    StoreClosed: (ShuttingDown.status, ShuttingDown.kind, ShuttingDown.title),
    RecordDamaged: (500, "record-damaged", "The stored record is damaged"),
    LibraryError: (500, "library-failed", "The library failed"),
}
STORE_RETRY_AFTER_S = 5  # while the store cannot be used


@dataclass(frozen=True)
class Problem:
    """One problem, ready to be sent."""

    status: int
    kind: str | None  # None where the status says it all
    title: str
    detail: str | None = None
    param: str | None = None  # the member of the request that is wrong
    members: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON object."""
        kind = "about:blank" if self.kind is None else TYPE_PREFIX + self.kind
        body: dict[str, Any] = {
            "type": kind,
            "title": self.title,
            "status": self.status,
        }
        if self.detail:
            body["detail"] = self.detail
        return body | self.members | {"request_id": request_id}


def problem_of(error: Exception) -> Problem:
    """The problem that represents an error to the client."""
    if isinstance(error, HTTPException) and isinstance(error.__cause__, ServiceError):
        # The framework wraps an error raised while it reads a body.
        error = error.__cause__
    if isinstance(error, ServiceError):
        return _of_service_error(error)
    if isinstance(error, RequestValidationError):
        return _of_validation_error(error)
    if isinstance(error, HTTPException):
        title = HTTPStatus(error.status_code).phrase
        detail = error.detail if error.detail != title else None
        return Problem(
            error.status_code, None, title, detail, headers=dict(error.headers or {})
        )
    for base in type(error).__mro__:
        if base in FOREIGN:
            status, kind, title = FOREIGN[base]
            is_internal = status >= HTTPStatus.INTERNAL_SERVER_ERROR
            detail = None if is_internal else str(error)
            headers = {}
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                headers["Retry-After"] = str(STORE_RETRY_AFTER_S)
            return Problem(status, kind, title, detail, headers=headers)
    return Problem(ServiceError.status, ServiceError.kind, ServiceError.title)


def _of_service_error(error: ServiceError) -> Problem:
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    elif error.status == HTTPStatus.FORBIDDEN:
        headers["WWW-Authenticate"] = 'Bearer error="insufficient_scope"'
    if error.status == HTTPStatus.REQUEST_TIMEOUT:
        # Whatever may still come is the rest of this request, and nobody reads it.
        headers["Connection"] = "close"
    detail = str(error) if error.status != HTTPStatus.INTERNAL_SERVER_ERROR else None
    return Problem(
        error.status,
        error.kind,
        error.title,
        detail,
        error.param,
        _members(error),
        headers,
    )


def _of_validation_error(error: RequestValidationError) -> Problem:
    faults = faults_of(error)
    detail = "; ".join(map(str, faults))
    members = {"errors": [asdict(fault) for fault in faults]}
    # What may be of several types has a fault for each; the one within says most.
    deepest = max(faults, key=lambda fault: len(fault.location))
    param = deepest.member
    return Problem(422, "invalid-input", "Invalid input", detail, param, members)


def _members(error: ServiceError) -> dict[str, Any]:
    if not isinstance(error, NoImageStored):
        return {}
    images = [
        {"filename": file.filename, "status": "failed", "error": failure(file.error)}
        for file in error.failed
    ]
    return {"images": images}


def failure(error: Exception) -> dict[str, Any]:
    """Why one file of an upload failed, as a problem inside a response."""
    problem = problem_of(error)
    return {
        "type": TYPE_PREFIX + (problem.kind or ServiceError.kind),
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail or problem.title,
    }


_OPENAI_PATH = "/v1/"
# What OpenAI's clients turn into the same exception as for its own service.
_OPENAI_STATUS = {415: 400, 422: 400}
_OPENAI_CODE = {"not-authorized": "invalid_api_key"}
# Statuses of errors that are about what a request holds.
_ABOUT_CONTENT = frozenset({404, 415, 422})


@dataclass(frozen=True)
class OpenAiMembers:
    """The members of a body that errors found after its validation are about."""

    content: str
    format: str | None = None

    def blame_in(self, request: Request) -> None:
        """Names them in the `param` of the request's errors."""
        request.state.openai_members = self

    def at_fault(self, problem: Problem) -> str | None:
        """The member that a problem is about; None if it is about none."""
        if problem.kind == "bad-answer-format":
            return self.format
        return self.content if problem.status in _ABOUT_CONTENT else None


def _is_for_openai(request: Request) -> bool:
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", "")).startswith(
        _OPENAI_PATH
    )


def _openai_body(request: Request, problem: Problem) -> dict[str, Any]:
    kind = "invalid_request_error"
    if problem.status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    elif problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    code = problem.kind and _OPENAI_CODE.get(
        problem.kind, problem.kind.replace("-", "_")
    )
    message = problem.detail or problem.title
    members: OpenAiMembers | None = getattr(request.state, "openai_members", None)
    param = problem.param or (members and members.at_fault(problem))
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_event(request: Request, error: Exception) -> bytes:
    """The server-sent event that ends a broken stream, whose status has been sent."""
    problem = problem_of(error)
    request_id: str = request.state.request_id
    _log(problem, error, request_id)
    if _is_for_openai(request):
        return format_sse_event(data_str=json.dumps(_openai_body(request, problem)))
    data = json.dumps(problem.body(request_id))
    return format_sse_event(event="error", data_str=data)


def _log(problem: Problem, error: Exception, request_id: str) -> None:
    is_failure = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    # While the model loads, 503 is the expected answer.
    if is_failure and problem.status != HTTPStatus.SERVICE_UNAVAILABLE:
        log.error("Request %s failed.", request_id, exc_info=error)


class _ProblemResponse(JSONResponse):
    """ASCII alone: a problem may quote halves of surrogate pairs, which UTF-8 cannot spell."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


def _allowed_methods(request: Request, of_route: str) -> str:
    """The methods of all routes with the request's path, for the header Allow.

    `of_route` are those of the first such route; none for files, which are read alone.
    """
    path = getattr(request.scope.get("route"), "path", "")
    methods = {name.upper() for name in request.app.openapi()["paths"].get(path, ())}
    methods |= set((of_route or "GET").split(", ")) | {"OPTIONS"}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


async def respond(request: Request, error: Exception) -> Response:
    """The one exception handler."""
    problem = problem_of(error)
    request_id: str = request.state.request_id
    is_method = problem.status == HTTPStatus.METHOD_NOT_ALLOWED
    if is_method:
        # The framework names the methods of the first route of this path only.
        methods = _allowed_methods(request, problem.headers.get("Allow", ""))
        problem.headers["Allow"] = methods
    if is_method and request.method == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=problem.headers)
    _log(problem, error, request_id)
    metrics: Metrics = request.app.state.runtime.metrics
    metrics.problems.labels(problem.kind or problem.status).inc()
    # The answer to an error that nobody expected is made outside of all middleware.
    headers = SECURITY_HEADERS | {"X-Request-ID": request_id} | problem.headers
    if _is_for_openai(request):
        status = _OPENAI_STATUS.get(problem.status, problem.status)
        return JSONResponse(_openai_body(request, problem), status, headers)
    return _ProblemResponse(problem.body(request_id), problem.status, headers=headers)


def add_handler(app: FastAPI) -> None:
    """Registers the handler for every exception."""
    ours = (ServiceError, LibraryError, CompressorError)
    for error in (*ours, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(error, respond)
