"""Routes of stored images: upload, list, record, picture, delete.

Knows nothing of how images are compressed or stored.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import (
    APIRouter,
    Body,
    File,
    Form,
    Header,
    Query,
    Request,
    Response,
    UploadFile,
    status,
)

from index.ports import Record
from service.dependencies import CallerOf, FilterOf, GuardedRoute, ServicesOf, takes
from service.errors import ImageNotFound, PictureNotKept
from service.idempotency import Receipt
from service.problems import failure
from service.runtime import Services
from service.schemas import (
    MAX_LIMIT,
    DetailedBody,
    FailedBody,
    FileProblem,
    ImageBody,
    PageBody,
    StoredBody,
    UploadBody,
)
from service.use_cases.images import as_thumbnail
from service.use_cases.ingest import Outcome, Upload
from service.use_cases.metadata import checked_metadata, metadata_of_files
from service.worker.request_context import RequestContext

router = APIRouter(prefix="/images", tags=["images"], route_class=GuardedRoute)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    dependencies=[takes("multipart/form-data")],
    response_model=UploadBody,
    responses={
        200: {
            "model": UploadBody,
            "description": "Nothing new: all that could be read was stored before.",
        }
    },
)
def add_images(
    services: ServicesOf,
    caller: CallerOf,
    request: Request,
    response: Response,
    file: Annotated[
        list[UploadFile],
        File(description="One picture or many: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF."),
    ],
    metadata: Annotated[
        str | None, Form(description="A JSON object for all files, or a list with one for each.")
    ] = None,
    tokens: Annotated[
        int | None,
        Form(
            ge=1,
            description="Keep only the first so many summary tokens: one of the model's budgets.",
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="Sent again within a day, it gets the first answer.",
        ),
    ] = None,
) -> Any:
    """Compress and store pictures. When this returns, what it calls created survives a crash."""
    entries = metadata_of_files(metadata, len(file))
    uploads = [
        Upload(each.filename or "", each.file, entry, tokens)
        for each, entry in zip(file, entries, strict=True)
    ]
    if idempotency_key is None:
        return _add(services, caller, response, uploads)
    asked = _request_hash(request.url.query, [metadata or "", str(tokens)], uploads)
    with services.receipts.once(idempotency_key, asked) as slot:
        if slot.receipt is not None:
            headers = {"Idempotency-Replayed": "true"}
            return Response(slot.receipt.body, slot.receipt.status, headers, "application/json")
        body = _add(services, caller, response, uploads)
        status_code = response.status_code or status.HTTP_201_CREATED
        slot.answer(Receipt(status_code, body.model_dump_json().encode()))
        return body


def _add(
    services: Services, caller: RequestContext, response: Response, uploads: list[Upload]
) -> UploadBody:
    outcomes, timings_ms = services.ingest(uploads, caller)
    if not any(outcome.status == "created" for outcome in outcomes):
        response.status_code = status.HTTP_200_OK
    return UploadBody(
        images=[_outcome_body(services, outcome) for outcome in outcomes], timings_ms=timings_ms
    )


def _request_hash(query: str, fields: list[str], uploads: list[Upload]) -> bytes:
    """Of all that an upload asks for."""
    digest = hashlib.sha256()
    for text in (query, *fields):
        digest.update(f"{len(text)} {text} ".encode())
    for each in uploads:
        digest.update(f"{each.filename!r} {each.sha256} ".encode())
    return digest.digest()


@router.get("")
def list_images(
    services: ServicesOf,
    where: FilterOf,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next_cursor` of the page before")
    ] = None,
) -> PageBody:
    """All images, or those for which a filter holds, oldest first, a page at a time."""
    page = services.library.page(cursor=cursor, limit=limit, where=where)
    return PageBody(
        images=[_body(services, record) for record in page.records], next_cursor=page.next_cursor
    )


@router.get("/{image_id}")
def get_image(services: ServicesOf, image_id: str) -> DetailedBody:
    """What is stored of an image, in words where its tokens are kept in words."""
    return _detailed(services, _record(services, image_id))


@router.get(
    "/{image_id}/thumbnail",
    response_class=Response,
    responses={
        200: {"content": {"image/webp": {}}, "description": "A WebP, no side longer than 256 px."}
    },
)
def get_thumbnail(services: ServicesOf, image_id: str) -> Response:
    """A small picture of the image, where one was kept."""
    record = _record(services, image_id, with_picture=True)
    if record.picture is None:
        raise PictureNotKept("The service was set to keep no pictures when this image was added.")
    picture = as_thumbnail(record.picture)
    headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(picture.data, media_type=picture.media_type, headers=headers)


@router.put("/{image_id}/metadata", dependencies=[takes("application/json")])
def set_metadata(
    services: ServicesOf, image_id: str, metadata: Annotated[dict[str, Any], Body()]
) -> DetailedBody:
    """Give an image other metadata in place of what it has."""
    record = services.library.set_metadata(image_id, checked_metadata(metadata))
    if record is None:
        raise ImageNotFound(f"There is no image {image_id}.")
    return _detailed(services, record)


@router.delete("/{image_id}", status_code=status.HTTP_204_NO_CONTENT)
def delete_image(services: ServicesOf, image_id: str) -> None:
    """Delete an image: from now on it is neither found nor read."""
    if not services.library.delete([image_id])[0]:
        raise ImageNotFound(f"There is no image {image_id}.")


def _record(services: Services, image_id: str, *, with_picture: bool = False) -> Record:
    (record,) = services.library.get([image_id], with_picture=with_picture)
    if record is None:
        raise ImageNotFound(f"There is no image {image_id}.")
    return record


def _body(services: Services, record: Record) -> ImageBody:
    return ImageBody.of(record, services.library.model_info(record.fingerprint))


def _detailed(services: Services, record: Record) -> DetailedBody:
    library = services.library
    return DetailedBody.of_words(
        record, library.model_info(record.fingerprint), library.words(record)
    )


def _outcome_body(services: Services, outcome: Outcome) -> StoredBody | FailedBody:
    if outcome.status == "failed":
        assert outcome.error is not None
        return FailedBody(
            status=outcome.status,
            filename=outcome.filename,
            sha256=outcome.sha256,
            error=FileProblem(**failure(outcome.error)),
        )
    assert outcome.record is not None
    maker = services.library.model_info(outcome.record.fingerprint)
    return StoredBody.of_file(
        outcome.record, maker, status=outcome.status, filename=outcome.filename
    )
