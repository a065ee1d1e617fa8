"""Uploads that are worked on after their answer: told of, cancelled, and there after a restart."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.jobs import FILE_NAME
from tests.eventually import eventually
from tests.fakes.model import Gate, InterruptedModel
from tests.service.conftest import (
    Body,
    Start,
    add,
    assert_problem,
    factory,
    ids,
    listed,
    picture,
    send,
    stop,
    upload,
)

LATER = {"wait": "false"}


def job(client: TestClient, address: str) -> Body:
    body: Body = client.get(address).json()
    return body


def finished(client: TestClient, address: str) -> Body:
    """The job, once it has finished."""
    eventually(lambda: job(client, address)["finished_at_ms"] is not None)
    return job(client, address)


def blocked_model() -> tuple[InterruptedModel, Gate, threading.Event]:
    """A model that stops at the gate once the event is set."""
    gate, blocks = Gate(), threading.Event()

    def before(_: Any) -> None:
        if blocks.is_set():
            gate.pass_through()

    return InterruptedModel(before), gate, blocks


# It needs a service that has had no job yet.
@pytest.mark.deployments("single", "replicas")
def test_jobs_are_listed_newest_first_by_pages(client: TestClient) -> None:
    client.put("/collections/pets")
    addresses = []
    for colours in (("red",), ("blue", "green")):
        response = upload(client, *colours, params=LATER)
        addresses.append(response.headers["location"])
    of_pets = upload(client, "red", params=LATER | {"collection": "pets"})
    for address in addresses:
        finished(client, address)
    first = client.get("/jobs", params={"limit": 1}).json()
    cursor = first["next_cursor"]
    second = client.get("/jobs", params={"limit": 1, "cursor": cursor}).json()
    assert second["next_cursor"] is None
    listed_jobs = [*first["jobs"], *second["jobs"]]
    for body, address in zip(listed_jobs, reversed(addresses), strict=True):
        whole = job(client, address)
        assert whole.pop("files")
        assert body == whole
    response = client.get("/jobs", params={"collection": "pets"})
    assert ids(response.json()["jobs"]) == [of_pets.json()["id"]]
    response = client.get("/jobs", params={"cursor": "nonsense"})
    assert_problem(response, 422, "bad-cursor")


@pytest.mark.parametrize("name", ["", "Pets", "a b", "../pets"])
def test_a_name_that_no_collection_can_have_is_refused(
    client: TestClient, name: str
) -> None:
    for method, path in (("GET", "/jobs"), ("GET", "/jobs/a"), ("DELETE", "/jobs/a")):
        response = client.request(method, path, params={"collection": name})
        assert_problem(response, 422, "bad-collection-name")


def test_a_job_stores_what_it_can_and_tells_of_each_file(client: TestClient) -> None:
    (red,) = add(client, "red")
    contents = [picture("red"), picture("blue"), b"text", picture("blue")]
    response = send(client, *contents, params=LATER, metadata='{"album": "a"}')
    assert response.status_code == 202
    body = response.json()
    assert body["counts"] == {"waiting": 4}
    assert response.headers["location"] == f"/jobs/{body['id']}"
    done = finished(client, response.headers["location"])
    assert done["state"] == "done"
    assert done["counts"] == {"exists": 2, "created": 1, "failed": 1}
    assert done["files_per_s"] > 0
    assert done["remaining_s"] == 0
    files = done["files"]
    assert [file["filename"] for file in files] == [f"{n}.png" for n in range(4)]
    assert [file["status"] for file in files] == [
        "exists",
        "created",
        "failed",
        "exists",
    ]
    assert files[2]["error"]["type"] == "urn:precis:problem:not-an-image"
    blue = files[1]["id"]
    assert ids(listed(client)) == [red, blue]
    assert listed(client)[1]["metadata"] == {"album": "a"}


def test_all_may_fail(client: TestClient) -> None:
    response = send(client, b"text", b"", params=LATER)
    done = finished(client, response.headers["location"])
    assert done["counts"] == {"failed": 2}
    kinds = [file["error"]["type"].rsplit(":", 1)[1] for file in done["files"]]
    assert kinds == ["not-an-image", "empty-file"]


def test_jobs_survive_a_restart(start: Start, data_dir: Path) -> None:
    model, gate, blocks = blocked_model()
    client = start(factory(model))
    blocks.set()
    responses = [upload(client, colour, params=LATER) for colour in ("red", "blue")]
    gate.wait_for_arrival()
    addresses = [response.headers["location"] for response in responses]
    states = [job(client, address)["state"] for address in addresses]
    assert states == ["running", "waiting"]
    gate.opened.set()
    stop(client)
    client = start()
    for address in addresses:
        done = finished(client, address)
        assert set(done["counts"]) <= {"created", "exists"}
    assert len(listed(client)) == 2
    paths = list(data_dir.rglob(FILE_NAME))
    assert paths
    for path in paths:
        with closing(sqlite3.connect(path)) as file:
            query = "SELECT COUNT(*) FROM files WHERE data IS NOT NULL"
            assert file.execute(query).fetchone() == (0,)


def test_a_cancelled_job_stores_what_was_in_work_at_most(start: Start) -> None:
    model, gate, blocks = blocked_model()
    client = start(factory(model), batch_size=1)
    blocks.set()
    address = upload(client, "red", "blue", "green", params=LATER).headers["location"]
    gate.wait_for_arrival()
    assert client.delete(address).status_code == 204
    cancelled = job(client, address)
    assert cancelled["state"] == "cancelled"
    assert cancelled["counts"] == {"cancelled": 3}
    assert cancelled["finished_at_ms"] is not None
    gate.opened.set()
    # The next job shows that the thread has left the cancelled one.
    finished(client, upload(client, "yellow", params=LATER).headers["location"])
    ended = job(client, address)
    assert ended["state"] == "cancelled"
    stored = [file for file in ended["files"] if file["id"] is not None]
    assert ended["counts"]["cancelled"] == 3 - len(stored) >= 2
    assert len(listed(client)) == 1 + len(stored)
    assert client.delete(address).status_code == 204
    assert job(client, address) == ended


def test_jobs_keep_to_their_collection(client: TestClient) -> None:
    pets = {"collection": "pets"}
    client.put("/collections/pets")
    response = upload(client, "red", params={**LATER, **pets})
    address = response.headers["location"]
    assert address.endswith("?collection=pets")
    assert finished(client, address)["counts"] == {"created": 1}
    assert listed(client) == []
    assert len(listed(client, **pets)) == 1
    elsewhere = address.removesuffix("?collection=pets")
    assert_problem(client.get(elsewhere), 404, "job-not-found")
    assert_problem(client.delete(elsewhere), 404, "job-not-found")
    unknown = upload(client, "red", params={**LATER, "collection": "cars"})
    assert_problem(unknown, 404, "collection-missing")


def test_what_cannot_become_a_job_is_refused_at_once(start: Start) -> None:
    client = start(max_upload_bytes=2000)
    wrong = upload(client, "red", params=LATER, tokens="3")
    assert_problem(wrong, 422, "invalid-input")
    wrong = upload(client, "red", params=LATER, metadata="[]")
    assert_problem(wrong, 422, "invalid-input")
    assert_problem(client.get("/jobs/unknown"), 404, "job-not-found")


def test_jobs_hold_so_many_bytes_and_no_more(start: Start) -> None:
    model, gate, blocks = blocked_model()
    client = start(factory(model), max_upload_bytes=1024, batch_size=1)
    blocks.set()
    content = picture(size=(2, 2))
    filler = content + bytes(700)
    responses = []
    while not responses or responses[-1].status_code == 202:
        responses.append(send(client, filler, params=LATER))
        assert len(responses) < 40
    problem = responses[-1]
    assert_problem(problem, 429, "queue-full")
    assert problem.headers["retry-after"] == "30"
    gate.opened.set()


def test_a_repeated_upload_gets_the_same_job(client: TestClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first, second = (
        upload(client, "red", params=LATER, headers=headers) for _ in range(2)
    )
    assert second.status_code == 202
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    assert json.loads(second.content)["id"] == first.json()["id"]


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_wait_is_true_or_false(client: TestClient, value: str) -> None:
    response = upload(client, "red", params={"wait": value})
    assert_problem(response, 422, "invalid-input")
