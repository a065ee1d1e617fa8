"""The replica that answers HTTP: the application of the single process over a remote model."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI
from filelock import BaseFileLock
from starlette.middleware import Middleware

from index.concurrency import lock_folder
from index.data_folder import REPLICAS
from index.errors import LibraryError, StoreBusy
from index.files import store_errors
from service.api_keys import FILE_NAME as KEYS_FILE
from service.app import create_app
from service.cluster.job_requests import (
    HttpRequest,
    HttpResponse,
    JobResponder,
    JobsElsewhere,
)
from service.cluster.remote_model import Replicas, remote_models
from service.errors import ServiceNotStarted
from service.remedies import explained
from service.runtime import Runtime
from service.settings import Settings
from service.use_cases.images import Decode
from service.worker.concurrent_worker import ConcurrentWorker

# How long a replica may take to end after the next one has begun.
LONGEST_END_S = 60
PAUSE_S = 0.2


class ServiceReplica:
    """The use cases and the vector index; the model is elsewhere, the images in a shared store."""

    @staticmethod
    def _claim_folder(data_dir: Path) -> tuple[Path, BaseFileLock]:
        return claim_folder(data_dir)

    def __init__(
        self,
        settings: Settings,
        first_pass: Replicas,
        text_embedding: Replicas,
        second_pass: Replicas,
        jobs: Replicas | None = None,
        *,
        decode: Decode | None = None,
    ) -> None:
        """`jobs` is the replica that answers requests about jobs; None for that one itself.

        `decode` is as Runtime takes it. Raises NoApiKey, index.errors.LibraryError.
        """
        # The process holds the lock, so that the folder is free for the next as soon as it ends.
        folder, self._lock = self._claim_folder(settings.data_dir)
        settings = settings.model_copy(update={"data_dir": folder})
        self._runtime = Runtime(
            settings,
            lambda _: remote_models(
                first_pass, text_embedding, second_pass, folder / "model"
            ),
            decode=decode,
            worker=ConcurrentWorker,
        )
        self._runtime.access.check_start()
        self._jobs = jobs

    def app(self) -> FastAPI:
        """The application, the same as that of the single process; its lifespan loads it."""
        app = create_app(self._runtime)
        if self._jobs is not None:
            # The last is the innermost.
            app.user_middleware.append(
                Middleware(
                    JobsElsewhere,
                    forward=partial(_forward, self._jobs),
                    access=self._runtime.access,
                )
            )
        return app

    async def check_health(self) -> None:
        """Returns once the service is ready. Raises ServiceNotStarted if it cannot be."""
        worker = self._runtime.worker
        if not worker.loaded.is_set():
            await to_thread.run_sync(worker.loaded.wait)
        failure = worker.failure
        if failure is not None:
            reason = str(failure)
            if isinstance(failure, LibraryError):
                reason = explained(failure, self._runtime.settings)
            raise ServiceNotStarted(reason) from failure

    def leave_folder(self) -> None:
        """Frees the folder for the next replica, as the end of the process does."""
        self._lock.release()


class JobReplica(ServiceReplica):
    """The one replica that answers requests about jobs, and works on them."""

    @staticmethod
    def _claim_folder(data_dir: Path) -> tuple[Path, BaseFileLock]:
        return claim_job_folder(data_dir)

    def __init__(
        self,
        settings: Settings,
        first_pass: Replicas,
        text_embedding: Replicas,
        second_pass: Replicas,
        *,
        decode: Decode | None = None,
    ) -> None:
        """See ServiceReplica."""
        passes = (first_pass, text_embedding, second_pass)
        super().__init__(settings, *passes, decode=decode)
        self._responder = JobResponder(self.app())

    async def check_health(self) -> None:
        """See ServiceReplica; the first call starts the application."""
        await self._responder.start()
        await super().check_health()

    async def close(self) -> None:
        """Ends the application, and frees the folder for the next replica."""
        await self._responder.close()
        self.leave_folder()

    async def respond(self, request: HttpRequest) -> HttpResponse:
        """The answer to a request about jobs."""
        return await self._responder.respond(request)


async def _forward(jobs: Replicas, request: HttpRequest) -> HttpResponse:
    response: HttpResponse
    (response,) = await to_thread.run_sync(jobs.call_each, "respond", [request])
    return response


def claim_folder(data_dir: Path) -> tuple[Path, BaseFileLock]:
    """A folder that no other replica on this node has, and the lock on it.

    Raises index.errors.StoreError.
    """
    number = 0
    while True:
        try:
            return _claim(data_dir, str(number))
        except StoreBusy:
            number += 1


def claim_job_folder(data_dir: Path) -> tuple[Path, BaseFileLock]:
    """The folder with this node's file of jobs, and the lock on it.

    Raises StoreBusy if the replica before this one does not end; index.errors.StoreError.
    """
    until = time.monotonic() + LONGEST_END_S
    while True:
        try:
            return _claim(data_dir, "jobs")
        except StoreBusy:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE_S)


def _claim(data_dir: Path, name: str) -> tuple[Path, BaseFileLock]:
    folder = data_dir / REPLICAS / name
    with store_errors(f"{folder} cannot be used"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(folder.with_suffix(".lock"))
        keys = folder / KEYS_FILE
        if not keys.is_symlink():
            # Keys are those of the data folder itself.
            keys.symlink_to(data_dir.absolute() / KEYS_FILE)
    return folder, lock
