"""The real service on a real socket, over the fake model, for the tests of everything that speaks
HTTP to it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from service.app import create_app
from service.models import ModelFactory
from service.runtime import Runtime
from service.settings import Settings
from tests.fakes.decode import shared_decode
from tests.fakes.model import fake_models


@contextmanager
def served(
    data_dir: Path,
    models: ModelFactory = fake_models,
    *,
    port: int = 0,
    ready: bool = True,
    **settings: Any,
) -> Iterator[str]:
    """The address of a service that is ready unless `ready` is false; it has stopped after the
    block.
    """
    all_settings = Settings(data_dir=data_dir, **settings)
    runtime = Runtime(all_settings, models, decode=shared_decode())
    config = uvicorn.Config(create_app(runtime), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as listening:
        options = {"sockets": [listening]}
        thread = threading.Thread(target=server.run, kwargs=options)
        thread.start()
        try:
            is_ready = not ready or runtime.worker.loaded.wait(30)
            assert is_ready, "the model never became ready"
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def address_of_nobody() -> str:
    """An address on this machine where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"
