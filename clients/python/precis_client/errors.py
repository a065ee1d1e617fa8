"""Errors of the Python client.

PrecisError
├── ConnectionFailed      no connection, or it broke before the answer was complete
├── TimedOut              no answer in time (also a TimeoutError)
├── RequestInvalid        a text that cannot be sent, such as half of a surrogate pair (ValueError)
├── FolderUnusable        a folder to watch is gone or empty, so that nothing can be told of it
├── ResponseInvalid       a response this client cannot read: another service, or another version
└── ServiceProblem        the service answered with a problem (RFC 9457): status, title and detail
    ├── RequestRejected   400, 422 and other 4xx: the request is wrong (also a ValueError)
    │   ├── UploadTooLarge     413
    │   └── UploadUnsupported  415
    ├── AccessDenied      401, 403
    ├── NotFound          404: no such image (also a LookupError)
    ├── RequestConflict   409
    ├── ServiceBusy       429, 503: try again after `retry_after_s`
    └── ServiceFailed     other 5xx, or the service failed while it was streaming
"""

# The names say what happened; only the base ends in "Error".

from __future__ import annotations

from typing import Any


class PrecisError(Exception):
    """Base of all errors raised by the client."""


class ConnectionFailed(PrecisError):
    """No connection, or it broke before the answer was complete."""


class TimedOut(PrecisError, TimeoutError):
    """The service did not answer in time."""


class RequestInvalid(PrecisError, ValueError):
    """A text that cannot be sent."""


class FolderUnusable(PrecisError):
    """A folder to watch is gone or empty."""


class ResponseInvalid(PrecisError):
    """A response this client cannot read."""


class ServiceProblem(PrecisError):
    """The service answered with a problem.

    `status` is the HTTP status, or 200 for a problem in the middle of a stream. `title` and
    `detail` are for people. `members` holds all members of the problem as they were sent.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str | None = None,
        *,
        retry_after_s: float | None = None,
        members: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status = status
        self.title = title
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.members = members or {}


class RequestRejected(ServiceProblem, ValueError):
    """The request is wrong; sent again, it is rejected again."""


class UploadTooLarge(RequestRejected):
    """The upload has more bytes than the service accepts."""


class UploadUnsupported(RequestRejected):
    """The upload is of a type that the service does not accept."""


class AccessDenied(ServiceProblem):
    """The key is missing, wrong, or not allowed to do this."""


class NotFound(ServiceProblem, LookupError):
    """There is no image with this id, or no such address."""


class RequestConflict(ServiceProblem):
    """The request contradicts what is stored."""


class ServiceBusy(ServiceProblem):
    """The service is busy or not ready yet; try again after `retry_after_s`."""


class ServiceFailed(ServiceProblem):
    """The service failed."""


_BY_STATUS: dict[int, type[ServiceProblem]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: RequestConflict,
    413: UploadTooLarge,
    415: UploadUnsupported,
    429: ServiceBusy,
    503: ServiceBusy,
}


def problem(
    status: int,
    members: dict[str, Any],
    *,
    reason: str = "",
    retry_after_s: float | None = None,
) -> ServiceProblem:
    """The error for an HTTP status of 400 and above, or for a problem in a stream."""
    fallback = RequestRejected if 400 <= status < 500 else ServiceFailed
    kind = _BY_STATUS.get(status, fallback)
    return kind(
        status,
        str(members.get("title") or reason or f"HTTP status {status}"),
        members.get("detail"),
        retry_after_s=retry_after_s,
        members=members,
    )
