"""Python client of the Précis service."""

from precis_client.async_client import AsyncAnswerStream, AsyncPrecis
from precis_client.errors import PrecisError
from precis_client.retries import RetryPolicy
from precis_client.routes import Turn
from precis_client.sync_client import AnswerStream, Precis
from precis_client.uploads import PictureUpload

__all__ = [
    "AnswerStream",
    "AsyncAnswerStream",
    "AsyncPrecis",
    "PictureUpload",
    "Precis",
    "PrecisError",
    "RetryPolicy",
    "Turn",
]
