"""Routes of summary tokens: out of one library, and into another."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Response, UploadFile, status

from service.dependencies import (
    READ,
    WRITE,
    GuardedRoute,
    ImageInPath,
    ServicesOf,
    require_content_type,
)
from service.routes.images import found_or_404
from service.schemas.uploads import StoredBody, TokensStoredBody
from service.use_cases.token_files import TokenFile, write_token_file

router = APIRouter(tags=["tokens"], route_class=GuardedRoute)

_MEDIA_TYPE = "application/octet-stream"


@router.get(
    "/images/{image_id}/tokens",
    dependencies=[READ],
    response_class=Response,
    responses={
        200: {
            "content": {_MEDIA_TYPE: {}},
            "description": "A safetensors file, for `POST /tokens` of another service.",
        }
    },
)
def get_tokens(services: ServicesOf, image_id: ImageInPath) -> Response:
    """The summary tokens and the embedding of an image, with what the library knows of it."""
    library = services.library
    (record,) = library.get([image_id])
    record = found_or_404(image_id, record)
    tokens = library.decode(record)
    data = write_token_file(record, tokens, library.model_info(record.fingerprint))
    headers = {"Content-Disposition": f'attachment; filename="{record.id}.safetensors"'}
    return Response(data, media_type=_MEDIA_TYPE, headers=headers)


@router.post(
    "/tokens",
    status_code=status.HTTP_201_CREATED,
    dependencies=[WRITE, require_content_type("multipart/form-data")],
    response_model=TokensStoredBody,
    responses={
        200: {
            "model": TokensStoredBody,
            "description": "Nothing new: all were stored before.",
        }
    },
)
def add_tokens(
    services: ServicesOf,
    response: Response,
    file: Annotated[
        list[UploadFile],
        File(
            min_length=1,
            description="Files as `GET /images/{image_id}/tokens` gives them.",
        ),
    ],
) -> TokensStoredBody:
    """Store images by their tokens, made by the same model elsewhere: all of them or none."""
    files = [TokenFile(part.filename or "", part.file.read()) for part in file]
    outcomes = services.import_tokens(files)
    if all(outcome.status == "exists" for outcome in outcomes):
        response.status_code = status.HTTP_200_OK
    bodies = []
    for outcome in outcomes:
        model_info = services.library.model_info(outcome.record.fingerprint)
        body = StoredBody.of_file(
            outcome.record,
            model_info,
            status=outcome.status,
            filename=outcome.filename,
        )
        bodies.append(body)
    return TokensStoredBody(images=bodies)
