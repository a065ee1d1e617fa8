"""The service of a cluster in this process: replicas for HTTP, for jobs and for the model."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from service.cluster.service_replica import JobReplica, ServiceReplica
from service.models import ModelFactory
from service.settings import Settings
from service.use_cases.images import Decode
from tests.service.cluster.local_replicas import (
    LocalReplicas,
    event_loop,
    local_deployments,
)


class LocalService(TestClient):
    """A client of the service, which is ready within the context and ends with it."""

    def __init__(
        self,
        settings: Settings,
        make_models: ModelFactory,
        *,
        decode: Decode,
        raise_errors: bool,
    ) -> None:
        passes = local_deployments(settings, make_models)
        self._jobs = JobReplica(settings, *passes, decode=decode)
        self._service = ServiceReplica(
            settings, *passes, LocalReplicas(self._jobs, event_loop()), decode=decode
        )
        self._has_ended = False
        super().__init__(self._service.app(), raise_server_exceptions=raise_errors)

    def __enter__(self) -> LocalService:
        event_loop().call(self._jobs.check_health)
        super().__enter__()
        assert self.portal is not None
        self.portal.call(self._service.check_health)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        super().__exit__(*error)
        self._service.leave_folder()
        event_loop().call(self._jobs.close)
