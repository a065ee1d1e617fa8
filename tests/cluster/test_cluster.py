"""The service on a Ray cluster of two nodes, one of which is killed under load."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner

from precis_client.cli import main
from service.cluster.config import ClusterConfig, cluster_config
from service.errors import ClusterFailed, ClusterUnavailable
from service.models import Models
from service.settings import Settings
from tests.cluster.pictures import noise
from tests.cluster.ray_cluster import HEAD, HTTP_PORT, REPOSITORY, RayCluster
from tests.eventually import eventually
from tests.fakes.model import FakeGenerator, FakeSummaryModel, fake_models
from tests.service.conftest import (
    ask,
    files,
    ids,
    search,
    search_image,
    send,
    uploaded,
)

if TYPE_CHECKING:
    from service.cluster import control
else:
    control = pytest.importorskip("service.cluster.control")

pytestmark = pytest.mark.cluster

CLIENTS = 4
COLOURS = ("red", "green", "blue", "yellow")


def config(folder: Path, host: str = HEAD) -> ClusterConfig:
    """Two replicas of what may be on either node, over a store that both nodes reach."""
    return cluster_config(
        {
            "settings": {
                "store": f"lance://{folder / 'lance'}",
                "data_dir": str(folder / "data"),
            },
            "http": {"host": host, "port": HTTP_PORT},
            "service": {"min_replicas": 2},
            "first_pass": {"min_replicas": 2},
        }
    )


@pytest.fixture(scope="module")
def service(
    cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RayCluster]:
    control.up(config(tmp_path_factory.mktemp("library")), fake_models)
    yield cluster
    control.down()


@pytest.fixture
def client(service: RayCluster) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{HEAD}:{HTTP_PORT}", timeout=120) as client:
        yield client


def test_all_replicas_answer_for_what_one_has_stored(client: httpx.Client) -> None:
    stored = {colour: ids(uploaded(client, colour))[0] for colour in COLOURS}
    # More requests than replicas: each of them is asked.
    for _ in range(3):
        for colour, image_id in stored.items():
            assert ids(search(client, colour))[0] == image_id
            assert search_image(client, colour)[0]["id"] == image_id
            answer = ask(client, "Which colour?", image_ids=[image_id])["answer"]
            assert answer == f"I see {colour}."
    found = ask(client, "Is there something yellow?")
    assert found["answer"] == "I see yellow."


def test_an_answer_is_streamed(client: httpx.Client) -> None:
    (image_id,) = ids(uploaded(client, "red"))
    question = {"question": "count", "image_ids": [image_id], "stream": True}
    with client.stream("POST", "/ask", json=question | {"max_tokens": 50}) as stream:
        text = stream.read().decode()
    assert text.count("\nevent: ") + text.startswith("event: ") >= 50


def test_the_routes_are_those_of_the_single_process(client: httpx.Client) -> None:
    agreed_on = json.loads((REPOSITORY / "tests/golden/openapi.json").read_text())
    assert client.get("/openapi.json").json() == agreed_on


def test_jobs_are_known_to_every_replica(client: httpx.Client) -> None:
    made = send(client, noise(2**32), params={"wait": "false"})
    assert made.status_code == 202, made.text
    address = made.headers["location"]

    def is_done() -> bool:
        # Now one replica answers, then the other.
        return bool(client.get(address).raise_for_status().json()["state"] == "done")

    eventually(is_done, limit_s=120)
    (file,) = client.get(address).json()["files"]
    assert client.get(f"/images/{file['id']}").status_code == 200
    import_path = client.post("/jobs", json={"path": "pictures"})
    assert import_path.status_code == 422
    assert "PRECIS_IMPORT_DIR" in import_path.json()["detail"]


def test_nothing_acknowledged_is_lost_when_a_node_is_killed(
    service: RayCluster, client: httpx.Client
) -> None:
    acknowledged: dict[int, str] = {}
    failures: Counter[str] = Counter()
    numbers = iter(range(100_000))
    lock, stop = threading.Lock(), threading.Event()

    def upload() -> None:
        base_url = f"http://{HEAD}:{HTTP_PORT}"
        while not stop.is_set():
            with lock:
                number = next(numbers)
            while number not in acknowledged and not stop.is_set():
                try:
                    # A connection of its own: one to the killed node's entry would be gone.
                    with httpx.Client(base_url=base_url, timeout=120) as own:
                        response = send(own, noise(number))
                except httpx.TransportError as error:
                    failures[type(error).__name__] += 1
                    continue
                if response.status_code in (200, 201):
                    acknowledged[number] = ids(response.json()["images"])[0]
                else:
                    failures[f"{response.status_code}"] += 1

    threads = [threading.Thread(target=upload) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(acknowledged) >= 20, limit_s=300)
        service.kill_node()
        at_kill = len(acknowledged)
        eventually(lambda: len(acknowledged) >= at_kill + 40, limit_s=300)
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)
    kept = Counter(ids(all_images(client)))
    for number, image_id in acknowledged.items():
        assert image_id == hashlib.sha256(noise(number)).hexdigest()[: len(image_id)]
        assert kept[image_id] == 1, f"{number} is there {kept[image_id]} times"
    # Every one can be found too, by a replica that has been there all the time or is new.
    for number in list(acknowledged)[:: max(1, len(acknowledged) // 10)]:
        found = client.post("/search", files=files(noise(number))).json()["results"]
        assert ids(found)[0] == acknowledged[number]
    eventually(is_whole, limit_s=300)


def test_another_model_is_refused(service: RayCluster, tmp_path: Path) -> None:
    with pytest.raises(ClusterFailed, match="`precis cluster down` comes before"):
        control.up(config(tmp_path), other_models)
    control.up(config(tmp_path), fake_models)
    control.down()
    control.up(config(tmp_path), other_models)


def test_ray_of_another_version_cannot_join(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control.ray, "__version__", "2.99.0")
    with pytest.raises(ClusterUnavailable, match="cannot join") as told:
        control.state()
    assert "2.99.0" in str(told.value)
    assert "\n" not in str(told.value)


def test_commands_tell_how_it_is_and_remove_it(
    service: RayCluster, tmp_path: Path
) -> None:
    run = CliRunner()
    shown = run.invoke(main, ["cluster", "status"])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("running, ")
    removed = run.invoke(main, ["cluster", "down"])
    assert removed.stdout == "Removed.\n"
    assert run.invoke(main, ["cluster", "down"]).stdout == "There was no service.\n"
    shown = run.invoke(main, ["cluster", "status"])
    assert shown.exit_code == 1
    assert shown.stdout.startswith("not started, ")


def test_a_service_open_to_others_says_why_it_does_not_start(
    service: RayCluster, tmp_path: Path
) -> None:
    control.down()
    with pytest.raises(ClusterFailed, match="has no API key"):
        control.up(config(tmp_path, host="0.0.0.0"), fake_models)


class OtherModel(FakeSummaryModel):
    """The same by another name."""

    fingerprint = hashlib.sha256(b"another model").hexdigest()


def other_models(_: Settings) -> Models:
    return Models(OtherModel(), FakeGenerator())


def all_images(client: httpx.Client) -> list[dict[str, object]]:
    """Every record, over all pages."""
    images: list[dict[str, object]] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/images", params={"limit": 100, **cursor}).json()
        images += page["images"]
        if page["next_cursor"] is None:
            return images
        cursor = {"cursor": page["next_cursor"]}


def is_whole() -> bool:
    """Whether Ray has replaced what died."""
    return control.state().is_running
