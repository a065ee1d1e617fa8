"""Runs the service under uvicorn until a signal stops it."""

from __future__ import annotations

import logging.config
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import uvicorn
from starlette.middleware import Middleware

from index.errors import LibraryError
from service.access import AccessControl
from service.api_keys import ApiKeys
from service.app import create_app
from service.errors import ServiceNotStarted
from service.models import model_factory
from service.peers import PeerLimits, patient_protocol
from service.remedies import explained
from service.runtime import Runtime, check_settings
from service.settings import Settings
from service.shutdown import CancelledAtShutdown

log = logging.getLogger(__name__)

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
    app = create_app(runtime, peers)
    config = uvicorn.Config(
        app,
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
    server = uvicorn.Server(config)
    # The last is the innermost, whose answers are logged as all others.
    app.user_middleware.append(
        Middleware(CancelledAtShutdown, is_stopping=lambda: server.should_exit)
    )
    return server


def run(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then finishes the requests in progress.

    Raises NoApiKey, UnknownModel or ServiceNotStarted.
    """
    # Before the model, which takes seconds to minutes to load.
    with closing(ApiKeys(settings.data_dir)) as keys:
        AccessControl(settings, keys).check_start()
    check_settings(settings)
    with listening(settings) as listener:
        _run(settings, listener)


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The socket of the service. Raises ServiceNotStarted."""
    address = (settings.host, settings.port)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server(address, family=family)
    except OSError as error:
        raise ServiceNotStarted(
            f"The service cannot listen on {settings.host}:{settings.port}:"
            f" {error.strerror or error}"
        ) from error
    # Accepted sockets inherit it. Without it an answer in two segments, head and body, waits for
    # the peer's delayed acknowledgement, some 40 ms; asyncio sets it only where `proto` says TCP.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    with listener:
        yield listener


def _run(settings: Settings, listener: socket.socket) -> None:
    logging.config.dictConfig(LOGGING)
    runtime = Runtime(
        settings,
        model_factory(settings.model),
        on_failure=lambda: setattr(server, "should_exit", True),
    )
    server = server_of(runtime)
    host, port = listener.getsockname()[:2]
    shown_host = f"[{host}]" if ":" in host else host
    log.info(
        "running on http://%s:%d with the library in %s and the model in %s",
        shown_host,
        port,
        settings.data_dir.absolute(),
        settings.model_dir.absolute(),
    )
    server.run(sockets=[listener])
    failure = runtime.worker.failure
    if failure is not None:
        reason = str(failure) or type(failure).__name__
        if isinstance(failure, LibraryError):
            reason = explained(failure, settings)
        raise ServiceNotStarted(f"The service could not start: {reason}") from failure
