"""The service's routes: one function for each, which builds its call."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter

from precis_client.calls import Call, parsed, translated
from precis_client.results import (
    Answer,
    Collections,
    DetailedImage,
    Embeddings,
    FailedFile,
    Health,
    Hit,
    Job,
    JobsPage,
    Models,
    Page,
    SearchResult,
    Stored,
    StoredImage,
    Upload,
)
from precis_client.uploads import PictureUpload

T = TypeVar("T")
Metadata = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Where = Mapping[str, Any]  # a filter over metadata, see docs/api.md
ListOrder = Literal["oldest", "newest", "taken"]
HitOrder = Literal["best", "newest", "taken"]

PAGE_SIZE = 100
HITS = 10
JOB_FILES = 1000  # of a job that are returned at once


class Turn(TypedDict):
    """A turn of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Selection:
    """Which images a list or search is about, and which part of the hits to return."""

    where: Where | None = None
    tags: Sequence[str] = ()
    limit: int = HITS
    offset: int = 0
    order: HitOrder = "best"

    def filter(self) -> dict[str, Any]:
        """The filter as parameters of a query."""
        params: dict[str, Any] = {}
        if self.where is not None:
            params["where"] = json.dumps(self.where)
        if self.tags:
            params["tag"] = list(self.tags)
        return params

    def params(self) -> dict[str, Any]:
        """All of it as parameters of a query."""
        return {"limit": self.limit, "offset": self.offset, **self.filter()}


def add_images(
    files: Sequence[PictureUpload], metadata: Metadata | None, tokens: int | None
) -> Call[list[StoredImage | FailedFile]]:
    """POST /images. The service chooses a value for what is None."""
    options = _upload(files, metadata, tokens)
    return Call("POST", "/images", lambda body: parsed(_UPLOAD, body).images, options)


def add_image(
    file: PictureUpload, metadata: Metadata | None, tokens: int | None
) -> Call[list[StoredImage]]:
    """POST /images with one file, which is stored or else a problem."""
    options = _upload([file], metadata, tokens)
    return Call("POST", "/images", lambda body: parsed(_STORED, body).images, options)


def add_images_later(
    files: Sequence[PictureUpload], metadata: Metadata | None, tokens: int | None
) -> Call[Job]:
    """POST /images?wait=false."""
    options = _upload(files, metadata, tokens)
    options["params"] = {"wait": "false"}
    return Call("POST", "/images", _reader(_JOB), options)


def _upload(
    files: Sequence[PictureUpload], metadata: Metadata | None, tokens: int | None
) -> dict[str, Any]:
    fields = {
        "metadata": None if metadata is None else json.dumps(metadata),
        "tokens": tokens,
    }
    return {
        "files": [_part(file) for file in files],
        "data": _chosen(fields),
        # The same in every attempt.
        "headers": {"Idempotency-Key": uuid.uuid4().hex},
    }


def import_pictures(
    path: str, metadata: Mapping[str, Any] | None, tokens: int | None
) -> Call[Job]:
    """POST /jobs. The service chooses a value for what is None."""
    body = {"path": path, "metadata": metadata, "tokens": tokens}
    return Call("POST", "/jobs", _reader(_JOB), {"json": _chosen(body)})


def list_jobs(limit: int, cursor: str | None) -> Call[JobsPage]:
    """GET /jobs."""
    params = {"limit": limit, **_chosen({"cursor": cursor})}
    return Call("GET", "/jobs", _reader(_JOBS), {"params": params})


def get_job(job_id: str, limit: int, offset: int) -> Call[Job]:
    """GET /jobs/{job_id}."""
    params = {"limit": limit, "offset": offset}
    return Call("GET", _path("jobs", job_id), _reader(_JOB), {"params": params})


def cancel_job(job_id: str) -> Call[None]:
    """DELETE /jobs/{job_id}."""
    return Call("DELETE", _path("jobs", job_id), _read_nothing)


def list_images(
    limit: int,
    cursor: str | None,
    order: ListOrder,
    selection: Selection,
    id_prefix: str | None = None,
) -> Call[Page]:
    """GET /images."""
    chosen = _chosen({"cursor": cursor, "id_prefix": id_prefix})
    params = {"limit": limit, "order": order, **selection.filter(), **chosen}
    return Call("GET", "/images", _reader(_PAGE), {"params": params})


def get_image(image_id: str) -> Call[DetailedImage]:
    """GET /images/{image_id}."""
    return Call("GET", _image_path(image_id), _reader(_DETAILED))


def put_metadata(image_id: str, metadata: Mapping[str, Any]) -> Call[DetailedImage]:
    """PUT /images/{image_id}/metadata."""
    path = f"{_image_path(image_id)}/metadata"
    return Call("PUT", path, _reader(_DETAILED), {"json": metadata})


def get_thumbnail(image_id: str) -> Call[bytes]:
    """GET /images/{image_id}/thumbnail."""
    return Call("GET", f"{_image_path(image_id)}/thumbnail", bytes)


def get_view(image_id: str, side_px: int | None) -> Call[bytes]:
    """GET /images/{image_id}/view. The service chooses a size for None."""
    params = _chosen({"side_px": side_px})
    return Call("GET", f"{_image_path(image_id)}/view", bytes, {"params": params})


def get_original(image_id: str) -> Call[bytes]:
    """GET /images/{image_id}/original."""
    return Call("GET", f"{_image_path(image_id)}/original", bytes)


def get_tokens(image_id: str) -> Call[bytes]:
    """GET /images/{image_id}/tokens."""
    return Call("GET", f"{_image_path(image_id)}/tokens", bytes)


def add_tokens(files: Sequence[bytes]) -> Call[list[StoredImage]]:
    """POST /tokens."""
    parts = [
        ("file", (f"{number}.safetensors", data, "application/octet-stream"))
        for number, data in enumerate(files)
    ]
    return Call(
        "POST", "/tokens", lambda body: parsed(_STORED, body).images, {"files": parts}
    )


def similar_images(image_id: str, selection: Selection) -> Call[list[Hit]]:
    """GET /images/{image_id}/similar."""
    path = f"{_image_path(image_id)}/similar"
    return Call("GET", path, _read_hits, {"params": selection.params()})


def delete_image(image_id: str) -> Call[None]:
    """DELETE /images/{image_id}."""
    return Call("DELETE", _image_path(image_id), _read_nothing)


def search_text(
    query: str, min_probability: float | None, selection: Selection
) -> Call[list[Hit]]:
    """GET /search."""
    params = {
        "q": query,
        **_chosen({"min_probability": min_probability}),
        "order": selection.order,
        **selection.params(),
    }
    return Call("GET", "/search", _read_hits, {"params": params})


def search_image(
    files: Sequence[PictureUpload],
    image_ids: Sequence[str],
    text: str | None,
    text_weight: float | None,
    selection: Selection,
) -> Call[list[Hit]]:
    """POST /search. The service chooses a value for what is None."""
    # As parts of their own, since without a file httpx would not send multipart.
    fields: list[tuple[str, str]] = [("image_id", image_id) for image_id in image_ids]
    if text is not None:
        fields.append(("q", text))
    if text_weight is not None:
        fields.append(("text_weight", str(text_weight)))
    parts: list[Any] = [_part(file) for file in files]
    parts += [(name, (None, value.encode())) for name, value in fields]
    params = {"order": selection.order, **selection.params()}
    return Call("POST", "/search", _read_hits, {"params": params, "files": parts})


def embed_texts(texts: Sequence[str]) -> Call[Embeddings]:
    """POST /embeddings."""
    return Call(
        "POST", "/embeddings", _reader(_EMBEDDINGS), {"json": {"texts": list(texts)}}
    )


def ask(
    question: str,
    *,
    image_ids: Sequence[str] | None,
    limit: int | None,
    max_tokens: int | None,
    format: Mapping[str, Any] | None,
    history: Sequence[Turn],
    where: Where | None,
    tags: Sequence[str],
    library: bool,
    stream: bool,
) -> Call[Answer]:
    """POST /ask or /ask/library. The service chooses a value for what is None."""
    path = "/ask/library" if library else "/ask"
    body = {
        "question": question,
        "image_ids": image_ids,
        "limit": limit,
        "max_tokens": max_tokens,
        "format": format,
        "history": list(history) or None,
        "where": where,
        "tags": list(tags) or None,
        "stream": stream,
    }
    return Call("POST", path, _reader(_ANSWER), {"json": _chosen(body)})


def list_collections() -> Call[list[str]]:
    """GET /collections."""
    return Call("GET", "/collections", _read_names)


def create_collection(name: str) -> Call[None]:
    """PUT /collections/{name}."""
    return Call("PUT", _path("collections", name), _read_nothing)


def delete_collection(name: str) -> Call[None]:
    """DELETE /collections/{name}."""
    return Call("DELETE", _path("collections", name), _read_nothing)


def get_ready() -> Call[Health]:
    """GET /readyz."""
    return Call("GET", "/readyz", _reader(_HEALTH))


def list_models() -> Call[list[str]]:
    """GET /v1/models."""
    return Call("GET", "/v1/models", _read_models)


_UPLOAD = TypeAdapter(Upload)
_STORED = TypeAdapter(Stored)
_JOB = TypeAdapter(Job)
_JOBS = TypeAdapter(JobsPage)
_PAGE = TypeAdapter(Page)
_DETAILED = TypeAdapter(DetailedImage)
_SEARCH = TypeAdapter(SearchResult)
_ANSWER = TypeAdapter(Answer)
_EMBEDDINGS = TypeAdapter(Embeddings)
_COLLECTIONS = TypeAdapter(Collections)
_HEALTH = TypeAdapter(Health)
_MODELS = TypeAdapter(Models)


def _reader(shape: TypeAdapter[T]) -> Callable[[bytes], T]:
    return lambda body: parsed(shape, body)


def _read_hits(body: bytes) -> list[Hit]:
    return parsed(_SEARCH, body).results


def _read_names(body: bytes) -> list[str]:
    return [collection.name for collection in parsed(_COLLECTIONS, body).collections]


def _read_models(body: bytes) -> list[str]:
    return [model.id for model in parsed(_MODELS, body).data]


def _read_nothing(_: bytes) -> None:
    pass


def _chosen(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _part(file: PictureUpload) -> tuple[str, tuple[str, bytes, str]]:
    return "file", (file.name, file.data, file.media_type)


def _image_path(image_id: str) -> str:
    return _path("images", image_id)


def _path(kind: str, id: str) -> str:
    with translated():
        return f"/{kind}/{quote(id, safe='')}"
