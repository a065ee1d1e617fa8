"""What each process of a bulk ingest does: reads pictures out of files, compresses and puts them.

Without a word of Ray's, which spreads the files and the pictures.
"""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from index.errors import StoreUnreachable
from service.cluster.config import ClusterConfig
from service.cluster.model_replicas import ClaimModel
from service.cluster.service_replica import claim_folder
from service.errors import NoImageStored, ServiceError
from service.models import ModelFactory, Models
from service.runtime import Runtime
from service.settings import Settings
from service.use_cases.import_source import pictures_in
from service.use_cases.ingest import Failed, Upload
from service.use_cases.metadata import checked_metadata
from service.worker.request_context import RequestContext

log = logging.getLogger(__name__)

DEADLINE_S = 24 * 3600.0  # of a batch
# How long a worker waits for a store that does not answer, and the pause between tries.
PATIENCE_S = 300.0
PAUSE_S = 2.0


@dataclass(frozen=True)
class Ingested:
    """What became of a picture."""

    name: str  # path, and the place within a shard
    status: str  # created, exists or failed
    reason: str  # why it failed


class IngestWorker:
    """A process with a model of its own, which puts what it has compressed."""

    def __init__(
        self,
        config: ClusterConfig,
        make_models: ModelFactory,
        gpus: float,
        collection: str | None,
        claim_model: ClaimModel,
    ) -> None:
        settings = config.model_settings(gpus)
        folder, self._lock = claim_folder(settings.data_dir)

        def checked_models(settings: Settings) -> Models:
            models = make_models(settings)
            claim_model(models.summary.fingerprint)
            return models

        self._runtime = Runtime(
            settings.model_copy(update={"data_dir": folder}), checked_models
        )
        self._runtime.start()
        self._runtime.worker.loaded.wait()
        if self._runtime.worker.failure is not None:
            self.close()
            raise self._runtime.worker.failure
        self._collection = collection

    def __call__(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        """Ingests pictures, the rows of `read_pictures`; their outcomes, columns of Ingested."""
        outcomes = [Ingested(name, "failed", reason) for name, reason in _failed(rows)]
        uploads = list(_uploads(rows))
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                outcomes += self._ingest(uploads)
                break
            except StoreUnreachable:
                # What was stored before is found there by the next try.
                if time.monotonic() > until:
                    raise
                log.warning("the store does not answer; %d pictures wait", len(uploads))
                time.sleep(PAUSE_S)
        return {
            "name": [each.name for each in outcomes],
            "status": [each.status for each in outcomes],
            "reason": [each.reason for each in outcomes],
        }

    def close(self) -> None:
        """Ends the model and the library."""
        self._runtime.close()
        self._lock.release()

    def _ingest(self, uploads: Sequence[Upload]) -> list[Ingested]:
        if not uploads:
            return []
        ingest = self._runtime.services(self._collection).ingest
        try:
            outcomes, _ = ingest(uploads, RequestContext(DEADLINE_S))
        except NoImageStored as error:
            return [
                Ingested(file.filename, "failed", str(file.error))
                for file in error.failed
            ]
        ingested = []
        for outcome in outcomes:
            reason = str(outcome.error) if isinstance(outcome, Failed) else ""
            ingested.append(Ingested(outcome.filename, outcome.status, reason))
        return ingested


def read_pictures(file: Mapping[str, Any], max_bytes: int) -> Iterator[dict[str, Any]]:
    """The pictures of a file, as rows; one that cannot be read has a reason and no data."""
    name = file["path"]
    try:
        for picture, read in pictures_in(name, file["bytes"], max_bytes):
            try:
                content = read()
                metadata = checked_metadata(dict(content.metadata))
            except ServiceError as error:
                yield _row(picture, reason=str(error))
            else:
                yield _row(picture, content.data, json.dumps(metadata))
    except ServiceError as error:
        yield _row(name, reason=str(error))


def _row(
    name: str, data: bytes = b"", metadata: str = "", reason: str = ""
) -> dict[str, Any]:
    return {"name": name, "data": data, "metadata": metadata, "reason": reason}


def _failed(rows: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str]]:
    for name, reason in zip(rows["name"], rows["reason"], strict=True):
        if reason:
            yield str(name), str(reason)


def _uploads(rows: Mapping[str, Sequence[Any]]) -> Iterator[Upload]:
    for name, data, metadata, reason in zip(
        rows["name"], rows["data"], rows["metadata"], rows["reason"], strict=True
    ):
        if not reason:
            yield Upload(str(name), io.BytesIO(bytes(data)), json.loads(metadata))
