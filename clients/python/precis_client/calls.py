"""The service's routes: how to build each request and read its response, for both clients.

The clients send a call inside `translated`, which turns httpx's errors into ours.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from precis_client import environment
from precis_client.errors import (
    ConnectionFailed,
    RequestInvalid,
    ResponseInvalid,
    TimedOut,
    problem,
)
from precis_client.results import (
    Answer,
    FailedFile,
    Hit,
    Image,
    Job,
    Page,
    Piece,
    SearchResult,
    Stored,
    StoredImage,
    Upload,
)
from precis_client.retries import retry_after_s
from precis_client.uploads import PictureUpload


@dataclass(frozen=True)
class Event:
    """One event: its name and its data, lines joined by newlines."""

    name: str
    data: str


class EventReader:
    """Takes lines one by one and returns an event when a blank line completes it.

    Follows "Interpreting an event stream" of the HTML standard. It ignores `id` and `retry`, and
    drops an event that the end of the stream cuts short.
    """

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """The event that a line, without its line end, completes; None if it completes none."""
        if line == "":
            name, data = self._name, self._data
            self._name, self._data = "", []
            return Event(name or "message", "\n".join(data)) if data else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        return None


T = TypeVar("T")
Metadata = Mapping[str, Any] | Sequence[Mapping[str, Any]]
ListOrder = Literal["oldest", "newest", "taken"]

TIMEOUT_S = 150.0  # longer than the service's own deadline, whose error says more
CONNECT_TIMEOUT_S = 10.0
PAGE_SIZE = 100
HITS = 10


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how to read its response."""

    method: str
    path: str
    read: Callable[[bytes], T]
    options: dict[str, Any] = field(default_factory=dict)  # of httpx's build_request

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request, ready to be sent."""
        return http.build_request(self.method, self.path, **self.options)

    def result(self, response: httpx.Response) -> T:
        """The result in a response whose body has been read.

        Raises ServiceProblem or ResponseInvalid.
        """
        check(response)
        return self.read(response.content)


def http_options(
    url: str | None, api_key: str | None, timeout_s: float, collection: str | None
) -> dict[str, Any]:
    """Options common to the two httpx clients. Raises RequestInvalid."""
    url = environment.service_url() if url is None else url
    key = environment.api_key() if api_key is None else api_key
    if not (key or "").isascii():
        raise RequestInvalid("An API key is of ASCII characters.")
    return {
        "base_url": url,
        "params": {} if collection is None else {"collection": collection},
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(
            timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S), pool=None
        ),
    }


@contextmanager
def translated() -> Iterator[None]:
    """Turns errors of httpx into TimedOut, ConnectionFailed or RequestInvalid."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise RequestInvalid(f"{error.object!r} is not Unicode.") from error
    except httpx.TimeoutException as error:
        raise TimedOut("The service did not answer in time.") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise ConnectionFailed(f"The service cannot be reached: {error}") from error


def check(response: httpx.Response) -> None:
    """Raises the ServiceProblem in a response whose body has been read, if it holds one."""
    if response.is_success:
        return
    try:
        members = response.json()
    except ValueError:
        members = {}
    if not isinstance(members, dict):
        members = {}
    raise problem(
        response.status_code,
        members,
        reason=response.reason_phrase,
        retry_after_s=retry_after_s(response),
    )


def add_images(
    files: Sequence[PictureUpload], metadata: Metadata | None, tokens: int | None
) -> Call[list[StoredImage | FailedFile]]:
    """POST /images. The service chooses a value for what is None."""
    options = _upload(files, metadata, tokens)
    return Call("POST", "/images", lambda body: _read(_UPLOAD, body).images, options)


def add_image(
    file: PictureUpload, metadata: Metadata | None, tokens: int | None
) -> Call[list[StoredImage]]:
    """POST /images with one file, which is stored or else a problem."""
    options = _upload([file], metadata, tokens)
    return Call("POST", "/images", lambda body: _read(_STORED, body).images, options)


def _upload(
    files: Sequence[PictureUpload], metadata: Metadata | None, tokens: int | None
) -> dict[str, Any]:
    fields = {
        "metadata": None if metadata is None else json.dumps(metadata),
        "tokens": tokens,
    }
    return {
        "files": [_part(file) for file in files],
        "data": {name: value for name, value in fields.items() if value is not None},
        # The same in every attempt.
        "headers": {"Idempotency-Key": uuid.uuid4().hex},
    }


def import_pictures(
    path: str, metadata: Mapping[str, Any] | None, tokens: int | None
) -> Call[Job]:
    """POST /jobs. The service chooses a value for what is None."""
    body: dict[str, Any] = {"path": path, "metadata": metadata, "tokens": tokens}
    chosen = {name: value for name, value in body.items() if value is not None}
    return Call("POST", "/jobs", lambda job: _read(_JOB, job), {"json": chosen})


def get_job(job_id: str) -> Call[Job]:
    """GET /jobs/{id}."""
    return Call("GET", _path("jobs", job_id), lambda body: _read(_JOB, body))


def cancel_job(job_id: str) -> Call[None]:
    """DELETE /jobs/{id}."""
    return Call("DELETE", _path("jobs", job_id), _read_nothing)


def list_images(limit: int, cursor: str | None, order: ListOrder) -> Call[Page]:
    """GET /images."""
    params: dict[str, Any] = {"limit": limit, "order": order}
    if cursor is not None:
        params["cursor"] = cursor
    return Call("GET", "/images", lambda body: _read(_PAGE, body), {"params": params})


def get_image(image_id: str) -> Call[Image]:
    """GET /images/{id}."""
    return Call("GET", _image_path(image_id), lambda body: _read(_IMAGE, body))


def get_thumbnail(image_id: str) -> Call[bytes]:
    """GET /images/{id}/thumbnail."""
    return Call("GET", f"{_image_path(image_id)}/thumbnail", bytes)


def get_view(image_id: str) -> Call[bytes]:
    """GET /images/{id}/view."""
    return Call("GET", f"{_image_path(image_id)}/view", bytes)


def similar_images(image_id: str, limit: int) -> Call[list[Hit]]:
    """GET /images/{id}/similar."""
    path = f"{_image_path(image_id)}/similar"
    return Call("GET", path, _read_hits, {"params": {"limit": limit}})


def delete_image(image_id: str) -> Call[None]:
    """DELETE /images/{id}."""
    return Call("DELETE", _image_path(image_id), _read_nothing)


def search_text(query: str, limit: int) -> Call[list[Hit]]:
    """GET /search."""
    return Call("GET", "/search", _read_hits, {"params": {"q": query, "limit": limit}})


def search_image(
    files: Sequence[PictureUpload],
    image_ids: Sequence[str],
    text: str | None,
    text_weight: float | None,
    limit: int,
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
    return Call(
        "POST", "/search", _read_hits, {"params": {"limit": limit}, "files": parts}
    )


def ask(
    question: str,
    *,
    image_ids: Sequence[str] | None,
    limit: int | None,
    max_tokens: int | None,
    format: Mapping[str, Any] | None,
    library: bool,
    stream: bool,
) -> Call[Answer]:
    """POST /ask or /ask/library. The service chooses a value for what is None."""
    path = "/ask/library" if library else "/ask"
    body: dict[str, Any] = {
        "question": question,
        "image_ids": image_ids,
        "limit": limit,
        "max_tokens": max_tokens,
        "format": format,
        "stream": stream,
    }
    chosen = {name: value for name, value in body.items() if value is not None}
    return Call("POST", path, lambda answer: _read(_ANSWER, answer), {"json": chosen})


class AnswerReader:
    """Assembles an answer from the lines of its event stream."""

    def __init__(self) -> None:
        self.answer: Answer | None = None  # once it is complete
        self._events = EventReader()

    def feed(self, line: str) -> str:
        """The text that this line adds, if any. Raises ServiceProblem or ResponseInvalid."""
        event = self._events.feed(line)
        if event is None:
            return ""
        body = event.data.encode()
        if event.name == "piece":
            return _read(_PIECE, body).text
        if event.name == "done":
            self.answer = _read(_ANSWER, body)
        elif event.name == "error":
            members = _read(_MEMBERS, body)
            raise problem(
                members.get("status", httpx.codes.INTERNAL_SERVER_ERROR), members
            )
        return ""

    def finish(self) -> None:
        """To be called at the stream's end. Raises ConnectionFailed for an incomplete answer."""
        if self.answer is None:
            raise ConnectionFailed("The connection ended before the answer did.")


_UPLOAD = TypeAdapter(Upload)
_STORED = TypeAdapter(Stored)
_JOB = TypeAdapter(Job)
_PAGE = TypeAdapter(Page)
_IMAGE = TypeAdapter(Image)
_SEARCH = TypeAdapter(SearchResult)
_ANSWER = TypeAdapter(Answer)
_PIECE = TypeAdapter(Piece)
_MEMBERS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def _read(shape: TypeAdapter[T], body: bytes) -> T:
    try:
        return shape.validate_json(body)
    except ValidationError as error:
        raise ResponseInvalid(
            f"The response is not one of this version of Précis: {error}"
        ) from error


def _read_hits(body: bytes) -> list[Hit]:
    return _read(_SEARCH, body).results


def _part(file: PictureUpload) -> tuple[str, tuple[str, bytes, str]]:
    return "file", (file.name, file.data, file.media_type)


def _read_nothing(_: bytes) -> None:
    pass


def _image_path(image_id: str) -> str:
    return _path("images", image_id)


def _path(kind: str, id: str) -> str:
    with translated():
        return f"/{kind}/{quote(id, safe='')}"
