"""What routes ask for before they begin: access, readiness, the right kind of body, and the caller.

Knows nothing of use cases.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from index.filters import Filter
from service.errors import NotAuthorized, UnsupportedMediaType, UploadTooLarge
from service.runtime import Runtime, Services
from service.use_cases.metadata import filter_of
from service.worker.request_context import RequestContext

# Puts the scheme into the API's description; GuardedRoute does the checking, before a body is read.
bearer = HTTPBearer(
    auto_error=False, description="Only where the service was started with an API key."
)


def runtime_of(request: Request) -> Runtime:
    """The runtime of the app that serves this request."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def services_of(
    request: Request,
    collection: Annotated[
        str | None,
        Query(
            max_length=63,
            description="Name of a collection; the library without a name if left out.",
        ),
    ] = None,
) -> Services:
    """The use cases over a collection. Raises index.errors.CollectionMissing."""
    return runtime_of(request).services(collection)


class GuardedRoute(APIRoute):
    """A route that reads a request's body only for those who may call it, and only once the model
    is ready.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the guard."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            check_key(request)
            runtime_of(request).worker.check_ready()
            return await handle(request)

        return guarded


def check_key(request: Request) -> None:
    """Raises NotAuthorized unless the request carries the API key, where there is one."""
    expected = runtime_of(request).settings.api_key
    if expected is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        given.encode(), expected.get_secret_value().encode()
    ):
        raise NotAuthorized("Send the API key as `Authorization: Bearer KEY`.")


def takes(media_type: str) -> Any:
    """A dependency that raises UnsupportedMediaType for other bodies than `media_type`."""

    def check(request: Request) -> None:
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given != media_type:
            raise UnsupportedMediaType(
                f"Send {media_type}, not {given or 'a body without a Content-Type'}."
            )

    return Depends(check)


async def caller_of(request: Request) -> AsyncIterator[RequestContext]:
    """The caller; their work is called off when they hang up.

    Only for routes that have read the whole body: from then on the connection has nothing to say
    but its end.
    """
    caller = RequestContext(runtime_of(request).settings.deadline_s)

    async def watch() -> None:
        with suppress(UploadTooLarge):  # a GET may have a body too, which nobody reads
            while (await request.receive())["type"] != "http.disconnect":
                pass
            caller.leave()

    watching = asyncio.create_task(watch())
    try:
        yield caller
    finally:
        watching.cancel()
        caller.leave()  # whatever a broken-off response has left undone


def filter_in_query(
    where: Annotated[
        str | None,
        Query(
            max_length=4096, description='A JSON object: `{"year": {"gte": 2020}, "camera": "A"}`.'
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, Query(max_length=32, description="Only images with this tag; may repeat.")
    ] = None,
) -> Filter | None:
    """The filter of a list or a search. Raises InvalidInput, index.errors.InvalidFilter."""
    return filter_of(where, tag or [])


FilterOf = Annotated[Filter | None, Depends(filter_in_query)]
RuntimeOf = Annotated[Runtime, Depends(runtime_of)]
ServicesOf = Annotated[Services, Depends(services_of)]
CallerOf = Annotated[RequestContext, Depends(caller_of)]
