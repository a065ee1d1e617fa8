"""Requests about jobs, which one replica answers for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from index.data_folder import PARTS
from service.cluster.job_requests import is_about_jobs
from service.cluster.service_replica import (
    JobReplica,
    ServiceReplica,
    claim_folder,
    claim_job_folder,
)
from service.errors import ModelFailed
from service.settings import Settings
from tests.eventually import eventually
from tests.fakes.model import fake_models
from tests.service.cluster.local_replicas import (
    LocalReplicas,
    event_loop,
    local_deployments,
)
from tests.service.conftest import add, assert_problem, listed, upload

KEY = "a-key-to-everything"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store="memory", api_key=KEY)


@pytest.fixture
def jobs(settings: Settings) -> Iterator[LocalReplicas]:
    replica = JobReplica(settings, *local_deployments(settings, fake_models))
    event_loop().call(replica.check_health)
    yield LocalReplicas(replica, event_loop())
    event_loop().call(replica.close)


@pytest.fixture
def client(settings: Settings, jobs: LocalReplicas) -> Iterator[TestClient]:
    passes = local_deployments(settings, fake_models)
    replica = ServiceReplica(settings, *passes, jobs)
    with TestClient(replica.app()) as client:
        assert client.portal is not None
        client.portal.call(replica.check_health)
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


def test_a_job_is_made_and_told_of_by_the_one_replica(
    client: TestClient, settings: Settings
) -> None:
    made = upload(client, "red", "blue", params={"wait": "false"})
    assert made.status_code == 202, made.text
    address = made.headers["location"]

    def is_done() -> bool:
        return bool(client.get(address).json()["state"] == "done")

    eventually(is_done)
    job = client.get(address).json()
    assert [file["status"] for file in job["files"]] == ["created", "created"]
    assert [each["id"] for each in client.get("/jobs").json()["jobs"]] == [job["id"]]
    assert client.delete(address).status_code == 204
    # The stores in memory are not shared, so this replica has nothing of it.
    assert listed(client) == []
    assert len(add(client, "green")) == 1


def test_errors_of_jobs_are_problems_with_the_ids_of_their_requests(
    client: TestClient,
) -> None:
    headers = {"X-Request-ID": "my-own"}
    response = client.get("/jobs/none", headers=headers)
    assert_problem(response, 404, "job-not-found")
    assert response.headers.get_list("x-request-id") == ["my-own"]
    assert response.json()["request_id"] == "my-own"
    assert_problem(client.post("/jobs", content=b"{"), 415, "unsupported-media-type")


def test_without_a_key_nothing_is_carried_further(client: TestClient) -> None:
    del client.headers["Authorization"]
    assert_problem(client.get("/jobs"), 401, "not-authorized")


def test_a_body_is_limited_here(client: TestClient, settings: Settings) -> None:
    too_large = b"x" * (settings.max_upload_bytes + 1)
    response = client.post(
        "/images?wait=false", files={"file": ("a.png", too_large, "image/png")}
    )
    assert_problem(response, 413, "upload-too-large")


def test_a_replica_of_jobs_that_died_is_a_problem(
    client: TestClient, jobs: LocalReplicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_: object) -> list[object]:
        raise ModelFailed("died")

    monkeypatch.setattr(jobs, "call_each", died)
    assert_problem(client.get("/jobs"), 500, "model-failed")


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/jobs", "", True),
        ("DELETE", "/jobs/1", "", True),
        ("GET", "/jobsearch", "", False),
        ("POST", "/images", "wait=false", True),
        ("POST", "/images", "collection=a&wait=0", True),
        ("POST", "/images", "wait=false&wait=true", False),
        ("POST", "/images", "", False),
        ("GET", "/images", "wait=false", False),
    ],
)
def test_which_requests_are_about_jobs(
    method: str, path: str, query: str, expected: bool
) -> None:
    scope = {"method": method, "path": path, "query_string": query.encode()}
    assert is_about_jobs(scope) == expected


def test_every_file_of_replicas_is_in_the_registry_and_in_no_backup(
    client: TestClient, settings: Settings
) -> None:
    client.put("/collections/pets").raise_for_status()
    upload(
        client, "red", params={"collection": "pets"}, headers={"Idempotency-Key": "1"}
    )
    folder = settings.data_dir
    derived = {
        file
        for part in PARTS
        if not part.in_backup
        for file in folder.glob(part.pattern)
    }
    files = {path for path in folder.rglob("*") if path.is_file()}
    of_replicas = {path for path in files if "replicas" in path.parts}
    assert of_replicas
    assert of_replicas <= derived


def test_each_replica_on_a_node_has_a_folder_of_its_own(tmp_path: Path) -> None:
    first, lock = claim_folder(tmp_path)
    second, other = claim_folder(tmp_path)
    jobs, of_jobs = claim_job_folder(tmp_path)
    assert len({first, second, jobs}) == 3
    for taken in (lock, other, of_jobs):
        taken.release()
    again, lock = claim_folder(tmp_path)
    assert again == first
    lock.release()
