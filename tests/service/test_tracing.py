"""Traces: the spans of requests and of their stages, and that there is nothing of it when off."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.errors import ServiceNotStarted
from service.otel_tracing import OtelTracing
from service.runtime import check_settings
from service.settings import Settings
from tests.service.conftest import Start, add, ask, asked, search, stop

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
CALLER_ID = 0xB7AD6B7169203331
TRACEPARENT = {"traceparent": f"00-{TRACE_ID:032x}-{CALLER_ID:016x}-01"}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def client(start: Start, exporter: InMemorySpanExporter) -> TestClient:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return start(tracing=OtelTracing(provider))


def stages_of(spans: Sequence[ReadableSpan], request: ReadableSpan) -> list[str]:
    """The names of the spans below a request's, by the time they began."""
    assert request.context is not None
    below = [
        span
        for span in spans
        if span.parent is not None and span.parent.span_id == request.context.span_id
    ]
    below.sort(key=lambda span: span.start_time or 0)
    for span in below:
        assert request.start_time is not None
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
    return [span.name for span in below]


def request_span(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    (span,) = [span for span in spans if span.name == name]
    return span


def test_the_stages_of_a_request_are_spans_below_it(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    (red,) = add(client, "red")
    search(client, "red")
    ask(client, "What is it?", image_ids=[red])
    spans = exporter.get_finished_spans()
    stages = {
        "POST /images": [
            "ingest.lookup",
            "ingest.decode",
            "ingest.model",
            "ingest.store",
        ],
        "GET /search": ["search.embed", "search.search"],
        "POST /ask": ["ask.find", "ask.first_token", "ask.generate"],
    }
    for name, expected in stages.items():
        assert stages_of(spans, request_span(spans, name)) == expected


def test_a_stream_s_stages_are_below_its_request(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    (red,) = add(client, "red")
    exporter.clear()
    response = asked(client, "count", image_ids=[red], max_tokens=5, stream=True)
    assert response.status_code == 200
    spans = exporter.get_finished_spans()
    stages = stages_of(spans, request_span(spans, "POST /ask"))
    assert stages == ["ask.find", "ask.first_token", "ask.generate"]


def test_a_request_continues_the_trace_of_its_caller(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    client.get("/search", params={"q": "red"}, headers=TRACEPARENT)
    spans = exporter.get_finished_spans()
    parent = request_span(spans, "GET /search").parent
    assert parent is not None
    assert parent.span_id == CALLER_ID
    for span in spans:
        assert span.context is not None
        assert span.context.trace_id == TRACE_ID


def test_health_and_metrics_are_not_traced(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200
    assert exporter.get_finished_spans() == ()
    client.get("/images/livez")
    assert len(exporter.get_finished_spans()) == 1


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a collector, and the bodies that it is sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", bodies
        finally:
            server.shutdown()
            thread.join(30)


def test_spans_reach_a_collector_as_the_standard_variables_say(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (address, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "pictures")
        client = start(traces="otlp")
        search(client, "red")
        # What has not been sent yet is sent at the end.
        stop(client)
    names = set()
    services = set()
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for attribute in resource.resource.attributes:
                if attribute.key == "service.name":
                    services.add(attribute.value.string_value)
            for scope in resource.scope_spans:
                names |= {span.name for span in scope.spans}
    assert services == {"pictures"}
    assert names == {"GET /search", "search.embed", "search.search"}


def test_without_traces_nothing_of_opentelemetry_s_sdk_is_imported(
    tmp_path: Path,
) -> None:
    code = f"""
import sys
from service.app import create_app
from service.runtime import Runtime
from service.settings import Settings
from tests.fakes.model import fake_models
create_app(Runtime(Settings(data_dir={str(tmp_path)!r}), fake_models))
parts = ("opentelemetry.sdk", "opentelemetry.instrumentation", "opentelemetry.exporter")
assert not [name for name in sys.modules if name.startswith(parts)]
"""
    repository = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)


def test_traces_without_the_extra_are_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("service.tracing.find_spec", lambda _: None)
    settings = Settings(data_dir=tmp_path, traces="otlp")
    with pytest.raises(ServiceNotStarted, match="otel"):
        check_settings(settings)
