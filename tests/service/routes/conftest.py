"""One suite, several deployments: `make test-cluster` runs it against a cluster's too.

single    the service in one process
replicas  the replicas of a cluster in this process, over a store that they share
ray       the cluster's entry on Ray, over sockets; one for all tests, which find it empty
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from service.cluster.config import cluster_config
from service.models import ModelFactory
from service.settings import Settings
from service.use_cases.images import Decode
from tests.cluster.ray_cluster import HEAD, HTTP_PORT, RayCluster
from tests.eventually import eventually
from tests.fakes.decode import shared_decode
from tests.fakes.model import fake_models
from tests.service.cluster.local_service import LocalService
from tests.service.conftest import Body, Start, ids, listed

SINGLE, REPLICAS, RAY = "single", "replicas", "ray"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test runs against the deployments that it can."""
    if "deployment" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("deployments")
    deployments = marker.args if marker else (SINGLE, REPLICAS, RAY)
    if "start" in metafunc.fixturenames:
        # Settings and models of its own would take a cluster of its own.
        deployments = tuple(name for name in deployments if name != RAY)
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


@pytest.fixture
def client(deployment: str, request: pytest.FixtureRequest) -> httpx.Client:
    """A client of the service with the settings as they are by default."""
    if deployment == RAY:
        client: httpx.Client = request.getfixturevalue("ray_client")
        empty(client)
        return client
    start: Start = request.getfixturevalue("start")
    return start()


@pytest.fixture(scope="session")
def ray_client(
    cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of the service on Ray."""
    # Unlike an import, it does not make an error of what Ray is warned of.
    control = pytest.importorskip("service.cluster.control")
    cluster.mend()
    folder = tmp_path_factory.mktemp("library")
    settings = {
        "store": f"lance://{folder / 'lance'}",
        "data_dir": f"{folder / 'data'}",
    }
    http = {"host": HEAD, "port": HTTP_PORT}
    control.up(cluster_config({"settings": settings, "http": http}), fake_models)
    try:
        with httpx.Client(base_url=f"http://{HEAD}:{HTTP_PORT}", timeout=120) as client:
            yield client
    finally:
        control.down()


def empty(client: httpx.Client) -> None:
    """Removes all that earlier tests have left."""
    eventually(lambda: all(each["finished_at_ms"] for each in jobs(client)))
    for collection in client.get("/collections").json()["collections"]:
        client.delete(f"/collections/{collection['name']}").raise_for_status()
    while found := ids(listed(client)):
        for image_id in found:
            client.delete(f"/images/{image_id}").raise_for_status()


def jobs(client: httpx.Client) -> list[Body]:
    """The latest jobs."""
    bodies: list[Body] = client.get("/jobs").json()["jobs"]
    return bodies
