"""One suite, two deployments: `make test-cluster` runs it against a cluster's too.

single    the service in one process
replicas  the replicas of a cluster in this process, over a store that they share
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.models import ModelFactory
from service.settings import Settings
from service.use_cases.images import Decode
from tests.fakes.decode import shared_decode
from tests.fakes.model import fake_models
from tests.service.cluster.local_service import LocalService
from tests.service.conftest import Start

SINGLE, REPLICAS = "single", "replicas"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test runs against the deployments that it can."""
    if "deployment" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("deployments")
    deployments = marker.args if marker else (SINGLE, REPLICAS)
    marked = [
        pytest.param(name, marks=() if name == SINGLE else pytest.mark.cluster)
        for name in deployments
    ]
    metafunc.parametrize("deployment", marked, indirect=True)


@pytest.fixture
def deployment(request: pytest.FixtureRequest) -> str:
    """What the test runs against."""
    name: str = request.param
    return name


@pytest.fixture
def start(deployment: str, start: Start, data_dir: Path) -> Iterator[Start]:
    """As `start` of the single process, for whichever deployment."""
    if deployment == SINGLE:
        yield start
        return
    pytest.importorskip("lance")
    with ExitStack() as stack:

        def start_replicas(
            models: ModelFactory = fake_models,
            *,
            raise_errors: bool = True,
            decode: Decode | None = None,
            **settings: Any,
        ) -> TestClient:
            folder = settings.pop("data_dir", data_dir)
            service = LocalService(
                Settings(data_dir=folder, store=f"lance://{folder}-lance", **settings),
                models,
                decode=decode or shared_decode(),
                raise_errors=raise_errors,
            )
            return stack.enter_context(service)

        yield start_replicas
