"""A request of the service's and how to read its response, for both clients.

The clients send a call inside `translated`, which turns httpx's errors into ours. The calls
themselves are in `routes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from precis_client import environment
from precis_client.errors import (
    ConnectionFailed,
    RequestInvalid,
    ResponseInvalid,
    TimedOut,
    problem,
)
from precis_client.retries import retry_after_s

T = TypeVar("T")

TIMEOUT_S = 150.0  # longer than the service's own deadline, whose error says more
CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how to read its response."""

    method: str
    path: str
    read: Callable[[bytes], T]
    options: dict[str, Any] = field(default_factory=dict)  # of httpx's build_request

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request, ready to be sent."""
        return http.build_request(self.method, self.path, **self.options)

    def result(self, response: httpx.Response) -> T:
        """The result in a response whose body has been read.

        Raises ServiceProblem or ResponseInvalid.
        """
        check(response)
        return self.read(response.content)


def http_options(
    url: str | None, api_key: str | None, timeout_s: float, collection: str | None
) -> dict[str, Any]:
    """Options common to the two httpx clients. Raises RequestInvalid."""
    url = environment.service_url() if url is None else url
    key = environment.api_key() if api_key is None else api_key
    if not (key or "").isascii():
        raise RequestInvalid("An API key is of ASCII characters.")
    return {
        "base_url": url,
        "params": {} if collection is None else {"collection": collection},
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(
            timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S), pool=None
        ),
    }


@contextmanager
def translated() -> Iterator[None]:
    """Turns errors of httpx into TimedOut, ConnectionFailed or RequestInvalid."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise RequestInvalid(f"{error.object!r} is not Unicode.") from error
    except httpx.TimeoutException as error:
        raise TimedOut(f"{_service(error)} did not answer in time.") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise ConnectionFailed(
            f"{_service(error)} cannot be reached: {error}. {REMEDY}"
        ) from error


REMEDY = f"Is it running? `precis serve` starts one; {environment.URL} or --url names another."


def _service(error: Exception) -> str:
    """The service and its address, where the error knows the request."""
    try:
        url = error.request.url if isinstance(error, httpx.HTTPError) else None
    except RuntimeError:  # httpx's, for an error that knows of no request
        url = None
    if url is None:
        return "The service"
    return f"The service at {url.scheme}://{url.netloc.decode()}"


def check(response: httpx.Response) -> None:
    """Raises the ServiceProblem in a response whose body has been read, if it holds one."""
    if response.is_success:
        return
    try:
        members = response.json()
    except ValueError:
        members = {}
    if not isinstance(members, dict):
        members = {}
    raise problem(
        response.status_code,
        members,
        reason=response.reason_phrase,
        retry_after_s=retry_after_s(response),
    )


def parsed(shape: TypeAdapter[T], body: bytes) -> T:
    """The JSON body as a value of this shape. Raises ResponseInvalid."""
    try:
        return shape.validate_json(body)
    except ValidationError as error:
        raise ResponseInvalid(
            f"The response is not one of this version of Précis: {error}"
        ) from error
