"""Routes of search: by text, and by another picture."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Query, UploadFile

from service.dependencies import (
    READ,
    ContextOf,
    FilterOf,
    GuardedRoute,
    ServicesOf,
    require_content_type,
)
from service.schemas import MAX_LIMIT, HitBody, SearchBody
from service.use_cases.search import SearchResult

router = APIRouter(prefix="/search", tags=["search"], route_class=GuardedRoute)

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="most images to return")]


@router.get("", dependencies=[READ])
def search_by_text(
    services: ServicesOf,
    context: ContextOf,
    q: Annotated[str, Query(description="what to look for")],
    where: FilterOf,
    limit: Limit = 10,
    min_probability: Annotated[
        float | None,
        Query(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="Only images that match at least so probably.",
        ),
    ] = None,
) -> SearchBody:
    """The images that fit a text, best first."""
    return _body(services.search.by_text(q, limit, context, where, min_probability))


@router.post("", dependencies=[READ, require_content_type("multipart/form-data")])
def search_by_image(
    services: ServicesOf,
    context: ContextOf,
    file: Annotated[UploadFile, File(description="The picture; it is not stored.")],
    where: FilterOf,
    limit: Limit = 10,
) -> SearchBody:
    """The images that resemble a picture, best first."""
    return _body(services.search.by_image(file.file.read(), limit, context, where))


def _body(result: SearchResult) -> SearchBody:
    hits = [HitBody.of_hit(hit) for hit in result.hits]
    return SearchBody(results=hits, timings_ms=result.timings_ms)
