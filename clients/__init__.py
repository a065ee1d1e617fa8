"""Python client of the Précis service."""

from clients.async_client import AsyncAnswerStream, AsyncPrecis
from clients.errors import PrecisError
from clients.retries import RetryPolicy
from clients.sync_client import AnswerStream, Precis
from clients.uploads import PictureUpload

__all__ = [
    "AnswerStream",
    "AsyncAnswerStream",
    "AsyncPrecis",
    "PictureUpload",
    "Precis",
    "PrecisError",
    "RetryPolicy",
]
