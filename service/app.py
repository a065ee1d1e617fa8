"""The app factory: routes, middleware and error handler around one runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import cache, partial
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from service.api_pages import add_api_pages
from service.mcp_mount import mount_mcp
from service.middleware import BodyLimit, HeadAsGet, RequestLog
from service.openapi import describe
from service.peers import PeerLimits
from service.problems import add_handler
from service.routes import (
    ask,
    collections,
    embeddings,
    images,
    jobs,
    openai,
    operations,
    search,
    tokens,
)
from service.runtime import Runtime
from service.security_headers import SecurityHeaders
from service.settings import origins_of
from service.web_page import add_web_page

API_VERSION = "1.0"
# Threads for requests that do not wait for the model, beside one for each slot of its queues.
SPARE_THREADS = 40
# What pages of the origins in the settings may send, and read of the answer's headers.
_CORS: dict[str, Any] = {
    "allow_methods": ["GET", "POST", "PUT", "DELETE"],
    "allow_headers": ["*"],
    "expose_headers": ["Location", "Retry-After", "WWW-Authenticate", "X-Request-ID"],
}


def create_app(runtime: Runtime, peers: PeerLimits | None = None) -> FastAPI:
    """The app; its lifespan starts and closes the runtime."""
    settings = runtime.settings

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        slots = settings.queue_size * len(runtime.worker.queues)
        to_thread.current_default_thread_limiter().total_tokens = slots + SPARE_THREADS
        runtime.start()
        try:
            async with mcp.running() if mcp is not None else nullcontext():
                yield
        finally:
            await to_thread.run_sync(runtime.close)

    app = FastAPI(
        title="Précis",
        summary="Keeps what a vision-language model saw, not the pixels.",
        version=API_VERSION,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        docs_url=None,
        redoc_url=None,
        form_limits={
            "max_files": settings.max_files,
            "max_fields": 16,
            "max_part_size": settings.max_metadata_bytes,
        },
    )
    app.state.runtime = runtime
    # The middleware added last is the outermost.
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        BodyLimit,
        max_upload_bytes=settings.max_upload_bytes,
        metrics=runtime.metrics,
        peers=peers or PeerLimits(),
    )
    if origins := origins_of(settings.cors_origins):
        app.add_middleware(CORSMiddleware, allow_origins=origins, **_CORS)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog, metrics=runtime.metrics)
    add_handler(app)
    runtime.tracing.instrument(app)
    of_data = (images, tokens, jobs, search, embeddings, ask, openai, collections)
    for module in of_data:
        app.include_router(module.router)
    app.include_router(operations.router)
    app.include_router(operations.keyed_router)
    mcp = mount_mcp(app, settings)
    add_api_pages(app)
    add_web_page(app)
    app.openapi = cache(partial(describe, app))  # type: ignore[method-assign]
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
