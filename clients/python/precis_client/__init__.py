"""Python client of the Précis service.

The names are imported when they are first used: the command `precis` runs a service too, which has
no use for an HTTP client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
_MODULES = {
    "AnswerStream": "sync_client",
    "AsyncAnswerStream": "async_client",
    "AsyncPrecis": "async_client",
    "PictureUpload": "uploads",
    "Precis": "sync_client",
    "PrecisError": "errors",
    "RetryPolicy": "retries",
    "Turn": "routes",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
