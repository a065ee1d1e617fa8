"""Dependencies of the routes: access, readiness, the body's type, and the request's context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response, Security, params
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool as to_thread
from starlette.types import Message, Receive

from index.data_folder import COLLECTION_NAME
from index.filters import Filter
from service.access import Access
from service.api_keys import Scope
from service.errors import UnsupportedMediaType, UploadTooLarge
from service.multipart import UploadRequest
from service.rate_limits import CallerLimits
from service.runtime import Runtime, Services
from service.schemas.base import MAX_LIMIT, MAX_OFFSET
from service.use_cases.metadata import filter_of
from service.worker.request_context import RequestContext

# Puts the scheme into the API's description; KeyedRoute checks the key, before it reads a body.
_bearer = HTTPBearer(
    auto_error=False, description="Only where the service has an API key."
)
# Dependencies that state the scope a route needs.
READ = Security(_bearer, scopes=["read"])
WRITE = Security(_bearer, scopes=["write"])
ADMIN = Security(_bearer, scopes=["admin"])


def runtime_of(request: Request) -> Runtime:
    """The runtime of the app that serves this request."""
    runtime: Runtime = request.app.state.runtime
    return runtime


# The framework runs a dependency that is no coroutine on another thread, which costs more than
# these do; what reads the library belongs there.
async def _runtime(request: Request) -> Runtime:
    return runtime_of(request)


# Described here; what is no name of a collection, the index refuses.
_OF_COLLECTIONS = {"pattern": f"^({COLLECTION_NAME.pattern})$"}
CollectionInQuery = Annotated[
    str | None,
    Query(
        max_length=63,
        description="Name of a collection; the library without a name if left out.",
        json_schema_extra=_OF_COLLECTIONS,
    ),
]
CollectionInPath = Annotated[
    str,
    Path(description="Name of the collection.", json_schema_extra=_OF_COLLECTIONS),
]
ImageInPath = Annotated[str, Path(description="Id of the image.")]
JobInPath = Annotated[str, Path(description="Id of the job.")]


async def services_of(
    request: Request, collection: CollectionInQuery = None
) -> Services:
    """The use cases over a collection. Raises index.errors.CollectionMissing."""
    services = runtime_of(request).services
    # Only a collection has to be looked up, and perhaps opened.
    return services() if collection is None else await to_thread(services, collection)


class KeyedRoute(APIRoute):
    """A route that reads a body only with an API key of its scope: READ, WRITE or ADMIN."""

    needs_model = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler behind the check."""
        handle = super().get_route_handler()
        scope = self._scope()

        async def guarded(request: Request) -> Response:
            access = check_scope(request, scope)
            runtime = runtime_of(request)
            limits = runtime.rate_limits.of(access.caller, access.limits)
            receive = _counted(request, limits)
            if self.needs_model:
                runtime.worker.check_ready()
            return await handle(UploadRequest(request.scope, receive))

        return guarded

    def _scope(self) -> Scope:
        scopes: list[Scope] = []
        for dependency in self.dependencies:
            if isinstance(dependency, params.Security):
                scopes += dependency.scopes  # type: ignore[arg-type]  # only those above
        # A route without a scope would be open to every key, so it must not exist.
        (scope,) = scopes
        return scope


class GuardedRoute(KeyedRoute):
    """A keyed route that reads a body only once the model is ready, too."""

    needs_model = True


def access_of(request: Request) -> Access:
    """What the request's API key grants. Raises NotAuthorized."""
    return runtime_of(request).access.access_of(bearer_key(request))


def bearer_key(request: Request) -> str | None:
    """The API key that the request carries, if any."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def check_scope(request: Request, scope: Scope) -> Access:
    """What the request's API key grants.

    Raises NotAuthorized or KeyNotSufficient, where a route needs more for some requests.
    """
    access = access_of(request)
    access.check(scope, _named_collections(request))
    return access


def _counted(request: Request, limits: CallerLimits) -> Receive:
    """Counts the request, and its body as it is received. Raises RateLimited."""
    limits.count_request()
    if not limits.counts_bytes:
        return request.receive
    declared = request.headers.get("content-length", "0")
    # A length that is no number never gets here: the server refuses it.
    limits.check_body(int(declared))

    async def receive() -> Message:
        message = await request.receive()
        if size := len(message.get("body", b"")):
            limits.count_bytes(size)
        return message

    return receive


def _named_collections(request: Request) -> list[str]:
    """Every collection that the request names, as a path's name or in the query."""
    # All of them: which of two values the handler would take must not matter.
    named = request.query_params.getlist("collection")
    if "name" in request.path_params:
        named.append(request.path_params["name"])
    return named


def require_content_type(media_type: str) -> Any:
    """A dependency that raises UnsupportedMediaType for a body that is not of `media_type`."""

    async def check(request: Request) -> None:
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


async def filter_in_query(
    where: Annotated[
        str | None,
        Query(
            max_length=4096,
            description='A JSON object: `{"year": {"gte": 2020}, "camera": "A"}`.',
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        Query(max_length=32, description="Only images with this tag; repeatable."),
    ] = None,
) -> Filter | None:
    """The filter of a list or a search. Raises InvalidInput, index.errors.InvalidFilter."""
    return filter_of(where, tag or [])


Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="most images to return")]
Offset = Annotated[
    int,
    Query(ge=0, le=MAX_OFFSET, description="how many of the best hits to leave out"),
]
FilterOf = Annotated[Filter | None, Depends(filter_in_query)]
RuntimeOf = Annotated[Runtime, Depends(_runtime)]
ServicesOf = Annotated[Services, Depends(services_of)]
ContextOf = Annotated[RequestContext, Depends(context_of)]
