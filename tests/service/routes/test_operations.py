"""Health, metrics, access, and what every response carries."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from service.errors import UnknownModel
from service.models import Models, model_factory
from service.settings import Settings
from tests.fakes.model import Gate, fake_models
from tests.service.conftest import (
    Start,
    add,
    assert_problem,
    counting,
    factory,
    files,
    picture,
    wait_until_ready,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


# A replica gets requests only once it is ready.
@pytest.mark.deployments("single")
def test_alive_at_once_and_ready_once_the_model_is_warm(start: Start) -> None:
    gate = Gate()

    def slow_models(settings: Settings) -> Models:
        gate.pass_through()
        return fake_models(settings)

    client = start(slow_models, wait=False)
    gate.wait_for_arrival()
    assert client.get("/livez").json() == {"status": "alive"}
    for response in (
        client.get("/readyz"),
        client.get("/images"),
        client.get("/search", params={"q": "red"}),
        client.post("/images", files=files(picture())),
        client.post("/ask", json={"question": "a"}),
    ):
        assert_problem(response, 503, "not-ready")
        assert "retry-after" in response.headers
    gate.opened.set()
    wait_until_ready(client.app.state.runtime)  # type: ignore[attr-defined]
    assert client.get("/readyz").json() == {"status": "ready"}
    response = client.get("/images")
    assert response.status_code == 200


@pytest.mark.deployments("single")
@pytest.mark.parametrize(("is_warm", "batches"), [(False, [1, 1]), (True, [])])
def test_a_model_is_warmed_up_unless_it_is_warm(
    is_warm: bool, batches: list[int], start: Start
) -> None:
    computed: list[int] = []
    start(factory(counting(computed), is_warm=is_warm))
    assert computed == batches


# A replica that cannot load its model gets no requests.
@pytest.mark.deployments("single")
def test_a_model_that_cannot_be_loaded_is_503_without_the_reason(start: Start) -> None:
    def broken(_: Settings) -> Models:
        raise OSError("/secret/path is missing")

    client = start(broken)
    response = client.get("/livez")
    assert response.status_code == 200
    assert "secret" not in str(assert_problem(client.get("/readyz"), 503, "not-ready"))
    response = client.get("/images")
    assert_problem(response, 503, "not-ready")


def test_unknown_addresses_and_methods_are_problems(client: TestClient) -> None:
    response = client.get("/nowhere")
    assert_problem(response, 404)
    response = client.put("/images")
    assert_problem(response, 405)
    assert response.headers["allow"]


def test_a_request_keeps_the_id_and_the_trace_that_it_came_with(
    client: TestClient,
) -> None:
    response = client.get(
        "/livez", headers={"x-request-id": "abc-1", "traceparent": TRACE}
    )
    assert response.headers["x-request-id"] == "abc-1"
    assert response.headers["traceparent"] == TRACE


# Ray Serve's proxy gives every client its own id back, whatever it is.
@pytest.mark.deployments("single", "replicas")
@pytest.mark.parametrize("offered", ["", "a b", "x" * 200, "é"])
def test_an_id_that_would_spoil_a_log_is_replaced(
    client: TestClient, offered: str
) -> None:
    response = client.get(
        "/livez", headers={"x-request-id": offered.encode(), "traceparent": "nonsense"}
    )
    assert len(response.headers["x-request-id"]) == 32
    assert "traceparent" not in response.headers


# It needs a service that has done nothing yet.
@pytest.mark.deployments("single", "replicas")
def test_metrics_count_what_happened(client: TestClient) -> None:
    (red,) = add(client, "red")
    client.post("/images", files=files(picture("red"), b"nothing"))
    client.post("/ask", json={"question": "count", "image_ids": [red], "max_tokens": 5})
    client.get("/search", params={"q": "red"})
    client.get("/no/such/address")
    client.post("/search", files=files(b"nothing"))
    client.get(f"/images/{red}")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    values = dict(
        line.rsplit(" ", 1)
        for line in response.text.splitlines()
        if not line.startswith("#")
    )
    assert values['precis_ingested_images_total{status="created"}'] == "1.0"
    assert values['precis_ingested_images_total{status="exists"}'] == "1.0"
    assert values['precis_ingested_images_total{status="failed"}'] == "1.0"
    assert values["precis_library_images"] == "1.0"
    assert values["precis_first_piece_seconds_count"] == "1.0"
    assert values['precis_problems_total{kind="404"}'] == "1.0"
    assert values['precis_problems_total{kind="not-an-image"}'] == "1.0"
    assert values["precis_first_pass_seconds_count"] == "1.0"
    assert values["precis_text_embedding_seconds_count"] == "1.0"
    assert values["precis_generated_tokens_total"] == "5.0"
    assert values['precis_queue_places_taken{work="images"}'] == "0.0"
    assert values['precis_batch_size_count{work="images"}'] == "1.0"
    assert (
        values[
            'precis_http_request_seconds_count{method="POST",route="/images",status="201"}'
        ]
        == "1.0"
    )
    assert (
        values[
            'precis_http_request_seconds_count{method="GET",route="unknown",status="404"}'
        ]
        == "1.0"
    )
    assert (
        values[
            'precis_http_request_seconds_count{method="GET",route="/images/{image_id}",status="200"}'
        ]
        == "1.0"
    )


# It reads the log of this process.
@pytest.mark.deployments("single", "replicas")
def test_strangers_can_neither_forge_lines_of_the_log_nor_make_labels(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "service.access"):
        client.request("SPAM", "/a%0Aforged line")
    (line,) = (
        record.getMessage()
        for record in caplog.records
        if record.name == "service.access"
    )
    assert line.startswith("SPAM /a%0Aforged%20line 404 ")
    assert "SPAM" not in client.get("/metrics").text


def test_without_the_key_nothing_but_health_is_answered(start: Start) -> None:
    client = start(api_key="correct horse")
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic correct horse"},
    ):
        for response in (
            client.get("/images", headers=headers),
            client.get("/search", params={"q": "red"}, headers=headers),
            client.post("/ask", json={"question": "a"}, headers=headers),
            client.post("/images", files=files(picture()), headers=headers),
            client.delete("/images/x", headers=headers),
            client.get("/metrics", headers=headers),
        ):
            assert_problem(response, 401, "not-authorized")
            assert response.headers["www-authenticate"] == "Bearer"
    response = client.get("/livez")
    assert response.status_code == 200
    response = client.get("/readyz")
    assert response.status_code == 200
    assert (
        client.get(
            "/images", headers={"authorization": "Bearer correct horse"}
        ).status_code
        == 200
    )


def test_the_key_is_not_in_the_settings_text() -> None:
    assert "horse" not in repr(Settings(api_key="correct horse"))


def test_an_unknown_model_is_refused_by_name() -> None:
    with pytest.raises(UnknownModel, match="default"):
        model_factory("nonsense")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECIS_PORT", "9123")
    monkeypatch.setenv("PRECIS_KEEP", "none")
    settings = Settings()
    assert settings.port == 9123
    assert settings.keep == "none"
    assert Settings(port=1).port == 1
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 2  # type: ignore[misc]
