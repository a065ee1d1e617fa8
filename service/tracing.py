"""Traces of requests, by name: off, or OpenTelemetry's."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Protocol

from fastapi import FastAPI

from service.errors import ServiceNotStarted

_PACKAGES = (
    "opentelemetry.sdk",
    "opentelemetry.instrumentation.fastapi",
    "opentelemetry.exporter.otlp.proto.http",
)


class Tracing(Protocol):
    """Where the spans of requests go. Thread-safe."""

    def instrument(self, app: FastAPI) -> None:
        """From now on each request of the app is a span."""
        ...

    def stage(self, name: str, started_ns: int, ended_ns: int) -> None:
        """A span of a stage, under the request that the calling thread works on, if any.

        Its ends are in nanoseconds of Unix time.
        """
        ...

    def close(self) -> None:
        """Sends what has not been sent yet."""
        ...


class NoTracing:
    """Drops every span."""

    def instrument(self, app: FastAPI) -> None:
        """See `Tracing`."""

    def stage(self, name: str, started_ns: int, ended_ns: int) -> None:
        """See `Tracing`."""

    def close(self) -> None:
        """See `Tracing`."""


def _otlp() -> Tracing:
    check_traces("otlp")
    from service.otel_tracing import otlp_tracing

    return otlp_tracing()


TRACING: dict[str, Callable[[], Tracing]] = {
    "off": NoTracing,
    "otlp": _otlp,  # by the protocol of OpenTelemetry, over HTTP
}


def check_traces(name: str) -> None:
    """Raises ServiceNotStarted if the packages of a kind of tracing are not installed."""
    # A package inside of one that is missing cannot be looked up.
    if name != "off" and not all(map(_is_installed, _PACKAGES)):
        raise ServiceNotStarted(
            "Traces need OpenTelemetry: pip install 'precis-service[otel]'."
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
