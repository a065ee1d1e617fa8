"""Runs the service under uvicorn until a signal stops it."""

from __future__ import annotations

import logging.config
from typing import Any

import uvicorn

from service.app import create_app
from service.errors import ServiceNotStarted
from service.models import model_factory
from service.peers import PeerLimits, patient_protocol
from service.runtime import Runtime
from service.settings import Settings

# Of request line and headers; uvicorn itself refuses longer ones, in plain text.
MAX_HEAD_BYTES = 512 * 1024
GRACE_S = 30  # for the requests in progress when the service is stopped
# Longer than clients keep an idle connection (httpx: 5 s). The client must be the one that closes
# it: a request sent on a connection that the server is closing is reset.
KEEP_ALIVE_S = 75

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}


def server_of(runtime: Runtime, peers: PeerLimits | None = None) -> uvicorn.Server:
    """The HTTP server around a runtime, not yet running."""
    peers = peers or PeerLimits()
    config = uvicorn.Config(
        create_app(runtime, peers),
        host=runtime.settings.host,
        port=runtime.settings.port,
        log_config=None,
        access_log=False,  # the service writes its own line, with the request's id
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        server_header=False,
        http=patient_protocol(peers),
        ws="none",
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    return uvicorn.Server(config)


def run(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then finishes the requests in progress.

    Raises NoApiKey, UnknownModel or ServiceNotStarted.
    """
    runtime = Runtime(
        settings,
        model_factory(settings.model),
        on_failure=lambda: setattr(server, "should_exit", True),
    )
    runtime.access.check_start()
    logging.config.dictConfig(LOGGING)
    server = server_of(runtime)
    server.run()
    failure = runtime.worker.failure
    if failure is not None:
        reason = str(failure) or type(failure).__name__
        raise ServiceNotStarted(f"The service could not start: {reason}") from failure
