"""Runs the service under uvicorn until it is told to stop.

Knows nothing of routes.
"""

from __future__ import annotations

import logging.config
from typing import Any

import uvicorn

from service.app import create_app
from service.errors import UnknownModel
from service.models import model_factory
from service.runtime import Runtime
from service.settings import Settings

# Of request line and headers; what is longer is refused by the server itself, in plain text.
MAX_HEAD_BYTES = 512 * 1024
GRACE_S = 30  # for requests in work when the service is told to stop
# Longer than clients keep an idle connection (httpx: 5 s): whoever closes first must be the client,
# or a request meets a connection that is being closed, and is reset.
KEEP_ALIVE_S = 75

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}


def server_of(runtime: Runtime) -> uvicorn.Server:
    """The HTTP server around a runtime, not yet running."""
    config = uvicorn.Config(
        create_app(runtime),
        host=runtime.settings.host,
        port=runtime.settings.port,
        log_config=None,
        access_log=False,  # the service writes its own line, with the request's id
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        server_header=False,
        http="h11",
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    return uvicorn.Server(config)


def run(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then finishes what is in work. Raises SystemExit if it cannot
    begin.
    """
    logging.config.dictConfig(LOGGING)
    try:
        make_models = model_factory(settings.model)
    except UnknownModel as error:
        raise SystemExit(f"precis: {error}") from error
    runtime = Runtime(
        settings, make_models, on_failure=lambda: setattr(server, "should_exit", True)
    )
    server = server_of(runtime)
    server.run()
    if runtime.worker.failure is not None:
        raise SystemExit(f"precis: the service could not start: {runtime.worker.failure}")
