"""Dependencies of the routes: access, readiness, the body's type, and the request's context."""

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

# Puts the scheme into the API's description; GuardedRoute checks the key, before it reads a body.
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
    """A route that reads a body only with the API key, and only once the model is ready."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler behind these checks."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            check_key(request)
            runtime_of(request).worker.check_ready()
            return await handle(request)

        return guarded


def check_key(request: Request) -> None:
    """Raises NotAuthorized unless the request carries the API key, if the service has one."""
    expected = runtime_of(request).settings.api_key
    if expected is None:
        return
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    is_right = hmac.compare_digest(key.encode(), expected.get_secret_value().encode())
    if scheme.lower() != "bearer" or not is_right:
        raise NotAuthorized("Send the API key as `Authorization: Bearer KEY`.")


def require_content_type(media_type: str) -> Any:
    """A dependency that raises UnsupportedMediaType for a body that is not of `media_type`."""

    def check(request: Request) -> None:
        header, _, _ = request.headers.get("content-type", "").partition(";")
        content_type = header.strip().lower()
        if content_type != media_type:
            sent = content_type or "a body without a Content-Type"
            raise UnsupportedMediaType(f"Send {media_type}, not {sent}.")

    return Depends(check)


async def context_of(request: Request) -> AsyncIterator[RequestContext]:
    """The request's context, which is cancelled when the client disconnects.

    Only for routes that have read the whole body: from then on the connection can bring nothing but
    its end.
    """
    context = RequestContext(runtime_of(request).settings.deadline_s)

    async def cancel_on_disconnect() -> None:
        # A GET may have a body as well; it is read here, and dropped.
        with suppress(UploadTooLarge):
            while (await request.receive())["type"] != "http.disconnect":
                pass
            context.cancel()

    watcher = asyncio.create_task(cancel_on_disconnect())
    try:
        yield context
    finally:
        watcher.cancel()
        # An interrupted response may have left work behind.
        context.cancel()


def filter_in_query(
    where: Annotated[
        str | None,
        Query(
            max_length=4096,
            description='A JSON object: `{"year": {"gte": 2020}, "camera": "A"}`.',
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        Query(max_length=32, description="Only images with this tag; may repeat."),
    ] = None,
) -> Filter | None:
    """The filter of a list or a search. Raises InvalidInput, index.errors.InvalidFilter."""
    return filter_of(where, tag or [])


FilterOf = Annotated[Filter | None, Depends(filter_in_query)]
RuntimeOf = Annotated[Runtime, Depends(runtime_of)]
ServicesOf = Annotated[Services, Depends(services_of)]
ContextOf = Annotated[RequestContext, Depends(context_of)]
