"""Routes of search: by text, and by pictures with or without a text."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Query, UploadFile

from service.dependencies import (
    READ,
    ContextOf,
    FilterOf,
    GuardedRoute,
    Limit,
    Offset,
    ServicesOf,
    require_content_type,
)
from service.schemas.search import SearchBody
from service.use_cases.search import ImageQuery, Order

router = APIRouter(prefix="/search", tags=["search"], route_class=GuardedRoute)

OrderOf = Annotated[
    Order,
    Query(
        description="order of the hits that are returned: `newest` by when they were stored, "
        "`taken` by `exif.taken_at`, last first"
    ),
]


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
            description="Only images that match with at least this probability.",
        ),
    ] = None,
    offset: Offset = 0,
    order: OrderOf = "best",
) -> SearchBody:
    """The images that fit a text, best first unless another order is asked for."""
    result = services.search.by_text(q, offset + limit, context, where, min_probability)
    return SearchBody.of(result.page(offset, order))


@router.post("", dependencies=[READ, require_content_type("multipart/form-data")])
def search_by_image(
    services: ServicesOf,
    context: ContextOf,
    where: FilterOf,
    file: Annotated[
        list[UploadFile] | None,
        File(description="A picture or several; they are not stored."),
    ] = None,
    image_id: Annotated[
        list[str] | None,
        Form(description="A stored image, repeatable. It is not among the hits."),
    ] = None,
    q: Annotated[
        str | None, Form(description="What to look for beside the pictures.")
    ] = None,
    text_weight: Annotated[
        float,
        Form(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="How much `q` counts; the pictures count for the rest of 1.",
        ),
    ] = 0.5,
    limit: Limit = 10,
    offset: Offset = 0,
    order: OrderOf = "best",
) -> SearchBody:
    """The images that resemble pictures and fit a text, best first unless another order is asked
    for.
    """
    pictures = [part.file.read() for part in file or []]
    query = ImageQuery(pictures, image_id or [], q, text_weight)
    result = services.search.by_images(query, offset + limit, context, where)
    return SearchBody.of(result.page(offset, order))
