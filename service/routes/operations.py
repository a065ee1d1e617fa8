"""Routes for operators: liveness, readiness, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.dependencies import READ, KeyedRoute, RuntimeOf
from service.schemas.base import HealthBody

router = APIRouter(tags=["operations"])
keyed_router = APIRouter(tags=["operations"], route_class=KeyedRoute)


@router.get("/livez")
async def alive() -> HealthBody:
    """The process answers."""
    return HealthBody(status="alive")


@router.get("/readyz")
async def ready(runtime: RuntimeOf) -> HealthBody:
    """The model is loaded and warm; 503 until then."""
    runtime.worker.check_ready()
    return HealthBody(status="ready")


@keyed_router.get(
    "/metrics",
    dependencies=[READ],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
def metrics(runtime: RuntimeOf) -> Response:
    """Counters and times in the Prometheus text format."""
    return Response(runtime.metrics.render(), media_type=CONTENT_TYPE_LATEST)
