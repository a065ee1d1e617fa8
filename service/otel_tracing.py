"""Traces by OpenTelemetry's SDK (extra `otel`).

The SDK itself reads the standard variables OTEL_*: where spans are sent, which are kept, what the
service is called.
"""

from __future__ import annotations

from fastapi import FastAPI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

# Asked every few seconds by machines; their spans would hide the others.
_UNTRACED = "^https?://[^/]*/(livez|readyz|metrics)$"


class OtelTracing:
    """Spans by a provider of the SDK. A request continues the trace of its `traceparent`."""

    def __init__(self, provider: TracerProvider) -> None:
        """`provider` is shut down by `close`."""
        self._provider = provider
        self._tracer = provider.get_tracer("precis")

    def instrument(self, app: FastAPI) -> None:
        """See `Tracing`."""
        FastAPIInstrumentor.instrument_app(
            app,
            tracer_provider=self._provider,
            meter_provider=NoOpMeterProvider(),
            excluded_urls=_UNTRACED,
            # One for each message of ASGI, which of a stream are very many.
            exclude_spans=["receive", "send"],
        )

    def stage(self, name: str, started_ns: int, ended_ns: int) -> None:
        """See `Tracing`."""
        span = self._tracer.start_span(name, start_time=started_ns)
        span.end(ended_ns)

    def close(self) -> None:
        """See `Tracing`."""
        self._provider.shutdown()


def otlp_tracing() -> OtelTracing:
    """Traces that are sent to a collector, by OTLP over HTTP."""
    # A name in the environment wins.
    resource = Resource({SERVICE_NAME: "precis"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelTracing(provider)
