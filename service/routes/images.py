"""Routes of stored images: upload, list, record, picture, delete."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, TypeVar

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
from pydantic import BaseModel

from index.ports import Picture, Record
from service.dependencies import (
    READ,
    WRITE,
    CollectionInQuery,
    ContextOf,
    FilterOf,
    GuardedRoute,
    ImageInPath,
    Limit,
    Offset,
    RuntimeOf,
    ServicesOf,
    require_content_type,
)
from service.errors import ImageNotFound
from service.idempotency import StoredAnswer
from service.problems import failure
from service.routes.jobs import job_address
from service.runtime import Services
from service.schemas.base import FileProblem
from service.schemas.images import DetailedBody, ImageBody, PageBody
from service.schemas.jobs import JobBody
from service.schemas.search import SearchBody
from service.schemas.uploads import FailedBody, StoredBody, UploadBody
from service.use_cases.exif import TAKEN_AT_NAME
from service.use_cases.ingest import Failed, Outcome, Stored, Upload
from service.use_cases.metadata import checked_metadata, metadata_of_files
from service.worker.request_context import RequestContext

T = TypeVar("T")

router = APIRouter(prefix="/images", tags=["images"], route_class=GuardedRoute)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    dependencies=[WRITE, require_content_type("multipart/form-data")],
    response_model=UploadBody,
    responses={
        200: {
            "model": UploadBody,
            "description": "Nothing new: all that could be read was stored before.",
        },
        202: {
            "model": JobBody,
            "description": "With `wait=false`: a job, at the address in `Location`.",
        },
    },
)
def add_images(
    services: ServicesOf,
    runtime: RuntimeOf,
    context: ContextOf,
    request: Request,
    response: Response,
    file: Annotated[
        list[UploadFile],
        File(
            min_length=1,
            description="One picture or many: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, or HEIC with "
            "the extra `heic`.",
        ),
    ],
    metadata: Annotated[
        str | None,
        Form(description="A JSON object for all files, or a list with one for each."),
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
    collection: CollectionInQuery = None,
    wait: Annotated[
        bool, Query(description="false: answer at once, and work on the files in a job")
    ] = True,
) -> Any:
    """Compress and store pictures. When this returns, what it calls created survives a crash."""
    entries = metadata_of_files(metadata, len(file))
    uploads = [
        Upload(part.filename or "", part.file, entry, tokens)
        for part, entry in zip(file, entries, strict=True)
    ]

    def add() -> BaseModel:
        if wait:
            return _add(services, context, response, uploads)
        services.ingest.check_tokens([upload.tokens for upload in uploads])
        job = runtime.jobs.add(collection, uploads)
        response.status_code = status.HTTP_202_ACCEPTED
        response.headers["Location"] = job_address(request, job.id, collection)
        return JobBody.of(job)

    if idempotency_key is None:
        return _answered(add(), response)
    request_hash = _request_hash(
        request.url.query, [metadata or "", str(tokens)], uploads
    )
    with services.idempotency.claim(idempotency_key, request_hash) as claim:
        if claim.answer is not None:
            headers = {"Idempotency-Replayed": "true"}
            if claim.answer.status == status.HTTP_202_ACCEPTED:
                job_id = json.loads(claim.answer.body)["id"]
                headers["Location"] = job_address(request, job_id, collection)
            return Response(
                claim.answer.body, claim.answer.status, headers, "application/json"
            )
        body = add()
        status_code = response.status_code or status.HTTP_201_CREATED
        claim.keep(StoredAnswer(status_code, body.model_dump_json().encode()))
        return _answered(body, response)


def _answered(body: BaseModel, response: Response) -> Any:
    """The body, past the response model of an upload that was waited for."""
    if response.status_code != status.HTTP_202_ACCEPTED:
        return body
    return Response(
        body.model_dump_json(),
        response.status_code,
        {"Location": response.headers["Location"]},
        "application/json",
    )


def _add(
    services: Services,
    context: RequestContext,
    response: Response,
    uploads: list[Upload],
) -> UploadBody:
    outcomes, timings_ms = services.ingest(uploads, context)
    if all(outcome.status != "created" for outcome in outcomes):
        response.status_code = status.HTTP_200_OK
    images = [_outcome_body(services, outcome) for outcome in outcomes]
    return UploadBody(images=images, timings_ms=timings_ms)


def _request_hash(query: str, fields: list[str], uploads: list[Upload]) -> bytes:
    """SHA-256 over everything in the request that decides its answer."""
    digest = hashlib.sha256()
    for text in (query, *fields):
        digest.update(f"{len(text)} {text} ".encode())
    for upload in uploads:
        digest.update(f"{upload.filename!r} {upload.sha256} ".encode())
    return digest.digest()


@router.get("", dependencies=[READ])
def list_images(
    services: ServicesOf,
    where: FilterOf,
    limit: Limit = 50,
    cursor: Annotated[
        str | None,
        Query(max_length=2000, description="`next_cursor` of the page before"),
    ] = None,
    order: Annotated[
        Literal["oldest", "newest", "taken"],
        Query(
            description="which come first: those stored first or last, or those taken last, by "
            "`exif.taken_at`, without images that have none; a cursor is good for one order"
        ),
    ] = "oldest",
    id_prefix: Annotated[
        str,
        Query(max_length=64, description="only images whose ids begin so"),
    ] = "",
) -> PageBody:
    """All images, or those for which a filter holds, a page at a time."""
    library = services.library
    if order == "taken":
        page = library.page_by_text(
            TAKEN_AT_NAME,
            cursor=cursor,
            limit=limit,
            where=where,
            id_prefix=id_prefix,
        )
    else:
        newest_first = order == "newest"
        page = library.page(
            cursor=cursor,
            limit=limit,
            where=where,
            id_prefix=id_prefix,
            newest_first=newest_first,
        )
    return PageBody(
        images=[_body(services, record) for record in page.records],
        next_cursor=page.next_cursor,
    )


@router.get("/{image_id}", dependencies=[READ])
def get_image(services: ServicesOf, image_id: ImageInPath) -> DetailedBody:
    """What is stored of an image, in words where its tokens are kept in words."""
    return _detailed(services, _record(services, image_id))


@router.get(
    "/{image_id}/thumbnail",
    dependencies=[READ],
    response_class=Response,
    responses={
        200: {
            "content": {"image/webp": {}},
            "description": "A WebP, no side longer than 256 px.",
        }
    },
)
def get_thumbnail(
    services: ServicesOf, image_id: ImageInPath, context: ContextOf
) -> Response:
    """A small picture of the image, where one was kept."""
    record = _record(services, image_id, with_picture=True)
    return _picture_response(services.views.thumbnail(record, context))


@router.get(
    "/{image_id}/original",
    dependencies=[READ],
    response_class=Response,
    responses={
        200: {
            "content": {"image/*": {}},
            "description": "The bytes that were uploaded.",
        }
    },
)
def get_original(services: ServicesOf, image_id: ImageInPath) -> Response:
    """The upload itself, where the service keeps originals."""
    record = _record(services, image_id, with_picture=True)
    return _picture_response(services.views.original(record))


@router.get(
    "/{image_id}/view",
    dependencies=[READ],
    response_class=Response,
    responses={
        200: {
            "content": {"image/webp": {}},
            "description": "A WebP, no side longer than `side_px`.",
        }
    },
)
def get_view(
    services: ServicesOf,
    image_id: ImageInPath,
    context: ContextOf,
    side_px: Annotated[int, Query(ge=16, le=4096, description="longest side")] = 1024,
) -> Response:
    """The image in a size for a screen, where a picture was kept: a thumbnail stays as small."""
    record = _record(services, image_id, with_picture=True)
    return _picture_response(services.views.view(record, side_px, context))


@router.get("/{image_id}/similar", dependencies=[READ])
def similar_images(
    services: ServicesOf,
    image_id: ImageInPath,
    where: FilterOf,
    limit: Limit = 10,
    offset: Offset = 0,
) -> SearchBody:
    """The other images that resemble a stored one, best first, by its stored embedding."""
    result = services.search.by_id(image_id, offset + limit, where)
    return SearchBody.of(found_or_404(image_id, result).page(offset))


@router.put(
    "/{image_id}/metadata",
    dependencies=[WRITE, require_content_type("application/json")],
)
def set_metadata(
    services: ServicesOf,
    image_id: ImageInPath,
    metadata: Annotated[dict[str, Any], Body()],
) -> DetailedBody:
    """Give an image other metadata in place of what it has."""
    record = services.library.set_metadata(image_id, checked_metadata(metadata))
    return _detailed(services, found_or_404(image_id, record))


@router.delete(
    "/{image_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=[WRITE]
)
def delete_image(services: ServicesOf, image_id: ImageInPath) -> None:
    """Delete an image: from now on it is neither found nor read."""
    (deleted,) = services.library.delete([image_id])
    found_or_404(image_id, deleted or None)


def found_or_404(image_id: str, found: T | None) -> T:
    """What was found for the id. Raises ImageNotFound if it is None."""
    if found is None:
        raise ImageNotFound(f"There is no image {image_id}.")
    return found


def _record(services: Services, image_id: str, *, with_picture: bool = False) -> Record:
    (record,) = services.library.get([image_id], with_picture=with_picture)
    return found_or_404(image_id, record)


def _picture_response(picture: Picture) -> Response:
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(picture.data, media_type=picture.media_type, headers=headers)


def _body(services: Services, record: Record) -> ImageBody:
    return ImageBody.of(record, services.library.model_info(record.fingerprint))


def _detailed(services: Services, record: Record) -> DetailedBody:
    library = services.library
    return DetailedBody.of_words(
        record, library.model_info(record.fingerprint), library.words(record)
    )


def _outcome_body(services: Services, outcome: Outcome) -> StoredBody | FailedBody:
    match outcome:
        case Failed(filename, sha256, error):
            problem = FileProblem(**failure(error))
            return FailedBody(
                status="failed", filename=filename, sha256=sha256, error=problem
            )
        case Stored(record=record):
            return StoredBody.of_file(
                record,
                services.library.model_info(record.fingerprint),
                status=outcome.status,
                filename=outcome.filename,
                notes=outcome.notes,
                near_duplicates=outcome.near_duplicates,
            )
