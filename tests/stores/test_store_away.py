"""An object store that goes away in the middle of load and of ingest, and comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from index.errors import StoreAccessDenied
from service.cluster import ingest_worker
from service.cluster.config import ClusterConfig
from service.cluster.ingest_worker import IngestWorker, read_pictures
from tests.cluster.pictures import noise
from tests.fakes.model import InterruptedModel, fake_models
from tests.service.conftest import assert_problem, factory, files, ids, listed, send
from tests.service.test_server import Served
from tests.stores.faulty_s3 import (
    Fault,
    FaultyS3,
    answer_lost,
    answering,
    healthy,
    refused,
)
from tests.threads import run_threads

pytestmark = pytest.mark.stores
pytest.importorskip("lance")

EXPIRED = answering(400, "ExpiredToken", "The provided token has expired.")
FAULTS = pytest.mark.parametrize(
    "fault",
    [
        refused,
        answer_lost,
        answering(503, "SlowDown", "Please reduce your request rate."),
    ],
    ids=["refused", "lost", "slow-down"],
)
CLIENTS, PICTURES = 4, 4  # of each client


@pytest.fixture(autouse=True)
def _few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that stays away is told after one more try."""
    options = {"client_max_retries": "1", "client_retry_timeout": "5"}
    monkeypatch.setattr(
        "index.store.lance.dataset._REMOTE_OPTIONS", {"timeout": "60s", **options}
    )


@pytest.fixture
def services(proxied_url: str, tmp_path: Path) -> Iterator[list[Served]]:
    """Two over one store."""
    with ExitStack() as stack:
        served = []
        for name in ("a", "b"):
            service = Served(fake_models, tmp_path / name, {"store": proxied_url})
            stack.callback(service.stop)
            # FastAPI builds a route at its first request, not two applications' at a time.
            response = service.client.post("/images", files=files(b"no picture"))
            assert_problem(response, 415, "no-image-stored")
            served.append(service)
        yield served


class Outage:
    """Begins once some uploads are acknowledged, and ends once some are refused."""

    def __init__(self, proxy: FaultyS3, fault: Fault) -> None:
        self.acknowledged: dict[int, str] = {}
        self.refusals = 0
        self._proxy = proxy
        self._fault = fault
        self._lock = threading.Lock()

    def acknowledge(self, number: int, image_id: str) -> None:
        with self._lock:
            self.acknowledged[number] = image_id
            if len(self.acknowledged) == PICTURES:
                self._proxy.fault = self._fault

    def refuse(self) -> None:
        with self._lock:
            self.refusals += 1
            if self.refusals == 2 * CLIENTS:
                self._proxy.fault = healthy


@FAULTS
def test_nothing_acknowledged_under_load_is_lost(
    fault: Fault, proxy: FaultyS3, services: list[Served]
) -> None:
    outage = Outage(proxy, fault)

    def upload(client_number: int) -> None:
        client = services[client_number % 2].client
        first = client_number * PICTURES
        for number in range(first, first + PICTURES):
            while number not in outage.acknowledged:
                response = send(client, noise(number))
                if response.is_success:
                    outage.acknowledge(number, ids(response.json()["images"])[0])
                else:
                    assert_problem(response, 503, "store-unreachable")
                    assert int(response.headers["retry-after"]) > 0
                    outage.refuse()

    run_threads(CLIENTS, upload)
    assert outage.refusals >= 2 * CLIENTS
    for service in services:
        client = service.client
        stored = sorted(ids(listed(client, limit=100)))
        assert stored == sorted(outage.acknowledged.values())
        for number, image_id in outage.acknowledged.items():
            found = client.post("/search", files=files(noise(number)))
            assert found.json()["results"][0]["id"] == image_id


def test_a_store_that_lets_nobody_in_is_told_and_comes_back(
    proxy: FaultyS3, services: list[Served]
) -> None:
    client = services[0].client
    assert send(client, noise(0)).status_code == 201
    with proxy.failing(EXPIRED):
        for response in (send(client, noise(1)), client.get("/images")):
            assert_problem(response, 503, "store-access-denied")
            assert "expired" not in response.text
    assert send(client, noise(1)).status_code == 201
    assert len(listed(client)) == 2


def rows(numbers: Iterable[int]) -> dict[str, Sequence[Any]]:
    """Pictures as columns, as Ray Data hands them over."""
    read = [
        row
        for number in numbers
        for row in read_pictures(
            {"path": f"{number}.png", "bytes": noise(number)}, 100_000
        )
    ]
    return {name: [row[name] for row in read] for name in read[0]}


@pytest.fixture
def config(proxied_url: str, tmp_path: Path) -> ClusterConfig:
    settings = {"store": proxied_url, "data_dir": str(tmp_path), "batch_size": 2}
    return ClusterConfig(settings=settings)


class Ingest:
    """A process of a bulk ingest, whose store fails from the model's next batch on once armed."""

    def __init__(self, config: ClusterConfig, proxy: FaultyS3, fault: Fault) -> None:
        self._proxy = proxy
        self._fault = fault
        self.armed = threading.Event()
        models = factory(InterruptedModel(self._before))
        self._worker = IngestWorker(config, models, 0, None, lambda _: None)

    def _before(self, _: Sequence[object]) -> None:
        if self.armed.is_set():
            self.armed.clear()
            self._proxy.fault = self._fault

    def __enter__(self) -> Ingest:
        return self

    def __exit__(self, *error: object) -> None:
        self._worker.close()

    def __call__(self, numbers: Iterable[int]) -> list[str]:
        """What becomes of the pictures."""
        return self._worker(rows(numbers))["status"]


@FAULTS
def test_an_ingest_waits_for_its_store(
    fault: Fault,
    proxy: FaultyS3,
    config: ClusterConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            proxy.fault = healthy

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pause)
    monkeypatch.setattr(ingest_worker, "time", clock)
    with Ingest(config, proxy, fault) as ingest:
        assert ingest(range(2)) == ["created"] * 2
        ingest.armed.set()
        # What was stored though nobody was told so is found there by the next try.
        assert set(ingest(range(6))) <= {"created", "exists"}
        assert len(pauses) == 3
    with Ingest(config, proxy, fault) as another:
        assert another(range(7)) == ["exists"] * 6 + ["created"]


def test_an_ingest_whose_credentials_expire_goes_on_with_new_ones(
    proxy: FaultyS3, config: ClusterConfig
) -> None:
    with Ingest(config, proxy, EXPIRED) as ingest:
        assert ingest(range(2)) == ["created"] * 2
        ingest.armed.set()
        with pytest.raises(StoreAccessDenied) as caught:
            ingest(range(6))
        assert str(caught.value) == "Lance: The provided token has expired."
    proxy.fault = healthy
    with Ingest(config, proxy, EXPIRED) as another:
        assert another(range(6)) == ["exists"] * 2 + ["created"] * 4
        assert another(range(6)) == ["exists"] * 6
