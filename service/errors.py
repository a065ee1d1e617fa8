"""Errors of the service, each with the HTTP status it becomes; and errors that end a command.

ServiceError               answered as a problem, see problems.py
├── PictureError
│   ├── EmptyFile            422  the upload has no bytes
│   ├── NotAnImage           415  not a format we read
│   ├── ImageDamaged         422  a known format, but truncated or broken
│   ├── TooManyPixels        413  larger than the pixel limit
│   ├── DecodingTooLarge     413  decoding would take more memory than is allowed
│   ├── DecodingTooSlow      422  decoding took longer than is allowed
│   ├── DecoderDied          500  the process that decoded this one file died
│   ├── PictureRefused       422  the model's own processor does not take it
│   ├── ImportUnreadable     422  a file on the service's own disk cannot be read
│   └── FileFailed           500  the service could not process this one file
├── NoImageStored            4xx  every file of an upload failed
├── RequestStalled           408  the peer sent no more of its request
├── UploadTooLarge           413
├── UnsupportedMediaType     415  the request's Content-Type
├── InvalidInput             422  (also a ValueError) a value that the schema cannot judge alone
├── InvalidTokenFile         422  (also a ValueError) an upload that holds no usable tokens
├── KeyInUse                 409  an idempotency key of a request in progress
├── KeyReused                422  (also a ValueError) a key that answered another request
├── NotAuthorized            401
├── KeyNotSufficient         403  the API key's scope or collections do not cover the request
├── NotFound                 404
│   ├── ImageNotFound
│   ├── PictureNotKept
│   ├── JobNotFound
│   ├── ModelNotFound             a request under /v1 names another model
│   └── NoImagesToAsk             the library has no image to answer from
├── QueueFull                429  with Retry-After
├── RateLimited              429  with Retry-After; an API key's limit is used up
├── NotReady                 503  with Retry-After; the model is loading, or could not be loaded
├── ShuttingDown             503  with Retry-After
├── ModelFailed              500  the model stopped without a result
├── DeadlineExceeded         504  with Retry-After
└── RequestCancelled         499  the client disconnected, so nobody reads this

CommandError               ends a command of `precis` with exit status 1; never sent over HTTP
├── UnknownModel              (also a ValueError) the settings name a model that does not exist
├── InvalidOption             (also a ValueError) an option that the command cannot carry out
├── NotAMigration             the folder to migrate into holds something else
├── NoApiKey                  the service would be open to others
├── KeyUnknown                no key in force has this id
├── LibraryUnusable           an error of the library, with its place and the remedy
└── ServiceNotStarted         the model or the library could not be loaded
"""

# The names say what happened; only the bases end in "Error".

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compressor.errors import CompressorError
from index.errors import LibraryError


class ServiceError(Exception):
    """Base of the errors that a request may end with; the message is for the client's eyes."""

    status = 500
    kind = "internal-error"
    title = "Internal error"
    retry_after_s: int | None = None
    param: str | None = None  # the member of the request that is wrong


class PictureError(ServiceError):
    """Base of the errors of an uploaded file."""


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
    """The image exceeds the pixel limit; it was not decoded."""

    status, kind, title = 413, "too-many-pixels", "The image has too many pixels"


class DecodingTooLarge(PictureError):
    """Decoding would take more memory than is allowed."""

    status, kind = 413, "decoding-too-large"
    title = "Decoding the image takes too much memory"


class DecodingTooSlow(PictureError):
    """Decoding took longer than is allowed, and was ended."""

    status, kind = 422, "decoding-too-slow"
    title = "Decoding the image takes too long"


class DecoderDied(PictureError):
    """The process that decoded this one file died, by the file or by a signal."""

    status, kind = 500, "decoder-died"
    title = "The process that decoded this file died"

    def __init__(self) -> None:
        super().__init__("The process that decoded this file died.")


class PictureRefused(PictureError):
    """The model's own processor does not take the picture."""

    status, kind, title = 422, "picture-refused", "The model refuses the picture"


class ImportUnreadable(PictureError):
    """A file that a job imports cannot be read, or no picture can be found in it."""

    status, kind, title = 422, "import-unreadable", "The file cannot be imported"


class FileFailed(PictureError):
    """The service could not process this one file; the reason is in its log."""

    status, kind, title = 500, "file-failed", "The file could not be processed"

    def __init__(self) -> None:
        super().__init__("The service could not process this file.")


@dataclass(frozen=True)
class FailedFile:
    """A file of an upload that was not stored, and the reason."""

    filename: str
    error: PictureError


class NoImageStored(ServiceError):
    """Every file of an upload failed; its status is theirs if they agree, or else 422."""

    kind, title = "no-image-stored", "No image could be stored"

    def __init__(self, failed: Sequence[FailedFile]) -> None:
        self.failed = list(failed)
        statuses = {file.error.status for file in self.failed}
        self.status = statuses.pop() if len(statuses) == 1 else 422
        super().__init__(
            "; ".join(f"{file.filename}: {file.error}" for file in self.failed)
        )


class RequestStalled(ServiceError):
    """The peer sent no more of its request, or sent it too slowly."""

    status, kind, title = 408, "request-stalled", "The request stalled"


class UploadTooLarge(ServiceError):
    """The request body exceeds the limit."""

    status, kind, title = 413, "upload-too-large", "The upload is too large"


class UnsupportedMediaType(ServiceError):
    """The route does not accept this Content-Type."""

    status, kind, title = 415, "unsupported-media-type", "Unsupported media type"


class InvalidInput(ServiceError, ValueError):
    """A value that the schema cannot judge alone."""

    status, kind, title = 422, "invalid-input", "Invalid input"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidTokenFile(ServiceError, ValueError):
    """An upload that holds no usable summary tokens."""

    status, kind, title = 422, "invalid-token-file", "Not a file of summary tokens"


class KeyInUse(ServiceError):
    """A request with this idempotency key is in progress."""

    status, kind = 409, "idempotency-key-in-use"
    title = "A request with this key is being worked on"


class KeyReused(ServiceError, ValueError):
    """Another request was answered under this idempotency key."""

    status, kind = 422, "idempotency-key-reused"
    title = "This key was used for another request"


class NotAuthorized(ServiceError):
    """The API key is missing or wrong."""

    status, kind, title = 401, "not-authorized", "Not authorized"


class KeyNotSufficient(ServiceError):
    """The API key's scope or collections do not cover the request."""

    status, kind, title = 403, "key-not-sufficient", "The API key is not sufficient"


class NotFound(ServiceError):
    """Base of the errors of a resource that does not exist."""

    status, kind, title = 404, "not-found", "Not found"


class ImageNotFound(NotFound):
    """No image has this id."""

    kind, title = "image-not-found", "No such image"


class PictureNotKept(NotFound):
    """The image is stored, but no picture of it was kept."""

    kind, title = "picture-not-kept", "No picture was kept"


class JobNotFound(NotFound):
    """No job has this id, or it is another collection's."""

    kind, title = "job-not-found", "No such job"


class ModelNotFound(NotFound):
    """A request names a model that this service does not run."""

    kind, title = "model-not-found", "No such model"
    param = "model"


class NoImagesToAsk(NotFound):
    """The library holds no image that a question could be about."""

    kind, title = "no-images", "There are no images to ask about"


class QueueFull(ServiceError):
    """The queue has no free slot; try again after `retry_after_s`."""

    status, kind, title = 429, "queue-full", "The queue is full"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(ServiceError):
    """The API key has sent as much as it may; try again after `retry_after_s`."""

    status, kind, title = 429, "rate-limited", "The API key's limit is used up"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(ServiceError):
    """The model is still loading, or could not be loaded."""

    status, kind, title = 503, "not-ready", "Not ready"
    retry_after_s = 2


class ShuttingDown(ServiceError):
    """The service is shutting down; another replica may answer."""

    status, kind, title = 503, "shutting-down", "Shutting down"
    retry_after_s = 5


class ModelFailed(ServiceError):
    """The model stopped without a result."""

    status, kind, title = 500, "model-failed", "The model failed"


class DeadlineExceeded(ServiceError):
    """The request took longer than the deadline allows."""

    status, kind, title = 504, "deadline-exceeded", "The deadline has passed"
    retry_after_s = 5


class RequestCancelled(ServiceError):
    """The client disconnected; nobody will read this."""

    status, kind, title = 499, "caller-gone", "The caller has gone"

    def __init__(self, message: str = "The client disconnected.") -> None:
        super().__init__(message)


class CommandError(Exception):
    """Base of the errors that end a command; the message is for the person at the terminal."""


class UnknownModel(CommandError, ValueError):
    """The settings name a model that does not exist."""


class InvalidOption(CommandError, ValueError):
    """An option that the command cannot carry out."""


class NotAMigration(CommandError):
    """The folder to migrate into holds something that no migration wrote."""


class NoApiKey(CommandError):
    """The service would listen where others reach it, and has no API key."""


class KeyUnknown(CommandError):
    """No key in force has this id."""


class ClusterFileInvalid(CommandError, ValueError):
    """The file of a cluster cannot be read, or asks for what cannot be."""


class ClusterUnavailable(CommandError):
    """Ray is not installed, or there is no cluster that this version of it can join."""


class WrongModel(CommandError):
    """A node of a cluster has another model than the others."""


class ClusterFailed(CommandError):
    """The service could not be started on a cluster, or has stopped there."""


class LibraryUnusable(CommandError):
    """An error of the library, with its place and the remedy."""


class ServiceNotStarted(CommandError):
    """The model or the library could not be loaded."""


# Errors whose message says all that a person needs; any other is a bug and needs its traceback.
OUR_ERRORS = (ServiceError, CommandError, LibraryError, CompressorError)
