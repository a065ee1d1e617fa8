"""Errors of the service, each with the HTTP status it becomes.

Knows nothing of how they are sent; problems.py does that, for the errors of the other packages too.

ServiceError
├── PictureError
│   ├── EmptyFile            422  the upload has no bytes
│   ├── NotAnImage           415  not a format we read
│   ├── ImageDamaged         422  recognised, but truncated or broken
│   └── TooManyPixels        413  larger than the pixel limit
├── NoImageStored            4xx  every file of an upload failed
├── UploadTooLarge           413
├── UnsupportedMediaType     415  the request's Content-Type
├── InvalidInput             422  (also a ValueError) a value that the schema alone cannot judge
├── NotAuthorized            401
├── NotFound                 404
│   ├── ImageNotFound
│   ├── PictureNotKept
│   └── NoImagesToAsk             the library has nothing to answer from
├── QueueFull                429  with Retry-After
├── NotReady                 503  the model is loading, or could not be loaded
├── ShuttingDown             503
├── ModelFailed              500  the model broke off
├── UnknownModel             500  (also a ValueError) the settings name a model that does not exist
├── NotAMigration            500  a folder to migrate into holds something else
├── DeadlineExceeded         504
└── RequestCancelled               499  never seen by anyone: the caller hung up
"""

# The names say what is the case; "Error" is kept for the two bases.
# ruff: noqa: N818

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ServiceError(Exception):
    """Base of all errors raised by `service`; the message is written for the caller of the API."""

    status = 500
    kind = "internal-error"
    title = "Internal error"
    retry_after_s: int | None = None


class PictureError(ServiceError):
    """Base of what can be wrong with an uploaded file."""


class EmptyFile(PictureError):
    """The upload has no bytes."""

    status, kind, title = 422, "empty-file", "The file is empty"


class NotAnImage(PictureError):
    """The bytes are not an image in a format we read."""

    status, kind, title = 415, "not-an-image", "Not an image"


class ImageDamaged(PictureError):
    """The format is known, but the bytes are truncated or broken."""

    status, kind, title = 422, "image-damaged", "The image is damaged"


class TooManyPixels(PictureError):
    """The image is larger than the pixel limit; it was not decoded."""

    status, kind, title = 413, "too-many-pixels", "The image has too many pixels"


@dataclass(frozen=True)
class FailedFile:
    """A file of an upload that was not stored, and why."""

    filename: str
    error: PictureError


class NoImageStored(ServiceError):
    """Every file of an upload failed; the status is theirs if they agree."""

    kind, title = "no-image-stored", "No image could be stored"

    def __init__(self, failed: Sequence[FailedFile]) -> None:
        self.failed = list(failed)
        reasons = {file.error.status for file in self.failed}
        self.status = reasons.pop() if len(reasons) == 1 else 422
        super().__init__("; ".join(f"{file.filename}: {file.error}" for file in self.failed))


class UploadTooLarge(ServiceError):
    """The request body is over the limit."""

    status, kind, title = 413, "upload-too-large", "The upload is too large"


class UnsupportedMediaType(ServiceError):
    """The request has a Content-Type that this route does not take."""

    status, kind, title = 415, "unsupported-media-type", "Unsupported media type"


class InvalidInput(ServiceError, ValueError):
    """A value that the schema alone cannot judge."""

    status, kind, title = 422, "invalid-input", "Invalid input"


class NotAuthorized(ServiceError):
    """The API key is missing or wrong."""

    status, kind, title = 401, "not-authorized", "Not authorized"


class NotFound(ServiceError):
    """Base of what was asked for and is not there."""

    status, kind, title = 404, "not-found", "Not found"


class ImageNotFound(NotFound):
    """No image has this id."""

    kind, title = "image-not-found", "No such image"


class PictureNotKept(NotFound):
    """The image is known, but no picture of it was kept."""

    kind, title = "picture-not-kept", "No picture was kept"


class NoImagesToAsk(NotFound):
    """The library holds nothing that a question could be about."""

    kind, title = "no-images", "There are no images to ask about"


class QueueFull(ServiceError):
    """More is in work than may be; try again after `retry_after_s`."""

    status, kind, title = 429, "queue-full", "The queue is full"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(ServiceError):
    """The model is still loading, or could not be loaded."""

    status, kind, title = 503, "not-ready", "Not ready"
    retry_after_s = 2


class ShuttingDown(ServiceError):
    """The service is going down; another replica may answer."""

    status, kind, title = 503, "shutting-down", "Shutting down"
    retry_after_s = 5


class ModelFailed(ServiceError):
    """The model broke off without a result."""

    status, kind, title = 500, "model-failed", "The model failed"


class UnknownModel(ServiceError, ValueError):
    """The settings name a model that does not exist; raised before anything is served."""


class NotAMigration(ServiceError):
    """A folder to migrate into holds something else; raised before anything is done."""


class DeadlineExceeded(ServiceError):
    """The request took longer than it may."""

    status, kind, title = 504, "deadline-exceeded", "The deadline has passed"


class RequestCancelled(ServiceError):
    """The caller hung up; nobody will read this."""

    status, kind, title = 499, "caller-gone", "The caller has gone"
