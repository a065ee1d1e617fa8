"""Both clients against the real service: every method, every kind of refusal."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from clients import AsyncPrecis, PictureUpload, Precis, RetryPolicy
from clients.errors import (
    AccessDenied,
    ConnectionFailed,
    NotFound,
    PrecisError,
    RequestRejected,
    ResponseInvalid,
    ServiceBusy,
    ServiceFailed,
    TimedOut,
    UploadTooLarge,
    UploadUnsupported,
)
from clients.results import Answer, FailedFile, StoredImage
from service.errors import ModelFailed
from service.models import Models
from tests.clients.conftest import Draw
from tests.clients.serving import address_of_nobody, served
from tests.fakes.model import (
    FakeGenerator,
    FakeSummaryModel,
    Gate,
    InterruptedGenerator,
    InterruptedModel,
)
from tests.service.conftest import picture


class AsyncAsSync:
    """The asynchronous client behind the synchronous one's methods, so that one set of tests serves
    both.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncPrecis(*arguments, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = method(*arguments, **options)
            if isinstance(result, AsyncIterator):
                return iter(self._run(_listed(result)))
            result = self._run(result)
            return _Stream(self, result) if options.get("stream") else result

        return call

    def _run(self, work: Awaitable[Any]) -> Any:
        return self._loop.run_until_complete(work)

    def __enter__(self) -> AsyncAsSync:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.close())
        self._loop.close()


class _Stream:
    def __init__(self, owner: AsyncAsSync, stream: Any) -> None:
        self._owner = owner
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        pieces = aiter(self._stream)
        try:
            while (piece := self._owner._run(anext(pieces, None))) is not None:
                yield piece
        finally:
            self._owner._run(pieces.aclose())

    @property
    def answer(self) -> Answer | None:
        return self._stream.answer

    def close(self) -> None:
        self._owner._run(self._stream.close())


async def _listed(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


@pytest.fixture(params=[Precis, AsyncAsSync], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def precis(kind: Any, url: str) -> Iterator[Any]:
    with kind(url) as client:
        yield client


def upload(colour: str, name: str = "a.png") -> PictureUpload:
    return PictureUpload(name, picture(colour), "image/png")


def test_a_picture_is_stored_once(precis: Any, draw: Draw) -> None:
    path = draw("cat.png", "red")
    (image,) = precis.add(path, metadata={"place": "Zürich"})
    assert (image.status, image.filename) == ("created", "cat.png")
    assert image.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert image.id == PictureUpload.read(path).id
    assert image.fingerprint == FakeSummaryModel.fingerprint
    assert (image.tokens.count, image.tokens.dim) == FakeSummaryModel.tokens_shape
    assert (image.width_px, image.height_px) == (40, 30)
    (again,) = precis.add(str(path))
    assert (again.status, again.id) == ("exists", image.id)
    stored = precis.image(image.id)
    assert stored.metadata == {"place": "Zürich"}
    assert stored.created_at_ms == image.created_at_ms


def test_of_several_files_a_bad_one_fails_alone(precis: Any) -> None:
    first, second, third = precis.add(
        upload("red"), PictureUpload("b.jpg", b"no picture"), upload("blue", "c.png")
    )
    assert isinstance(first, StoredImage)
    assert isinstance(third, StoredImage)
    assert isinstance(second, FailedFile)
    assert second.filename == "b.jpg"
    assert second.error.detail


def test_metadata_for_each_file(precis: Any) -> None:
    images = precis.add(upload("red"), upload("blue"), metadata=[{"n": 1}, {"n": 2}])
    assert [image.metadata for image in images] == [{"n": 1}, {"n": 2}]


def test_images_come_page_by_page(precis: Any) -> None:
    colours = ["red", "green", "blue", "yellow", "black"]
    ids = [precis.add(upload(colour))[0].id for colour in colours]
    assert [image.id for image in precis.images(page_size=2)] == ids


def test_thumbnail_and_delete(precis: Any, tmp_path: Path) -> None:
    (image,) = precis.add(upload("red"))
    thumbnail = tmp_path / "thumbnail.webp"
    thumbnail.write_bytes(precis.thumbnail(image.id))
    with Image.open(thumbnail) as opened:
        assert opened.format == "WEBP"
    precis.delete(image.id)
    with pytest.raises(NotFound):
        precis.image(image.id)
    with pytest.raises(LookupError):
        precis.delete(image.id)


def test_search_by_text_and_by_picture(precis: Any, draw: Draw) -> None:
    red, blue = (precis.add(upload(colour))[0].id for colour in ("red", "blue"))
    hits = precis.search("something blue")
    assert [hit.id for hit in hits] == [blue, red]
    assert hits[0].score > hits[1].score
    (hit,) = precis.search_image(draw("query.png", "red", (50, 50)), limit=1)
    assert hit.id == red
    assert len(list(precis.images())) == 2


def test_ask_about_named_and_about_found_images(precis: Any) -> None:
    red, blue = (precis.add(upload(colour))[0].id for colour in ("red", "blue"))
    answer = precis.ask("What is in the image?", image_ids=(red, blue))
    assert answer.answer == "I see red blue."
    assert [(source.id, source.score) for source in answer.images] == [(red, None), (blue, None)]
    assert answer.finish_reason == "stop"
    assert answer.usage.completion_tokens > 0
    found = precis.ask("Where is the blue one?", limit=1)
    assert found.answer == "I see blue."
    assert found.images[0].score is not None
    assert precis.ask("Please count", max_tokens=3).finish_reason == "length"


def test_an_answer_in_pieces(precis: Any) -> None:
    (image,) = precis.add(upload("red"))
    stream = precis.ask("What?", image_ids=[image.id], stream=True)
    assert stream.answer is None
    pieces = list(stream)
    assert len(pieces) > 1
    assert "".join(pieces) == "I see red."
    assert stream.answer.answer == "I see red."
    assert stream.answer.images[0].id == image.id


def test_hanging_up_in_the_middle_of_an_answer(kind: Any, tmp_path: Path) -> None:
    gate = Gate()
    generator = InterruptedGenerator(
        lambda piece: gate.pass_through() if piece.completion_tokens > 2 else None
    )
    with (
        served(tmp_path, lambda _: Models(FakeSummaryModel(), generator)) as url,
        kind(url) as precis,
    ):
        (image,) = precis.add(upload("red"))
        stream = precis.ask("count", image_ids=[image.id], stream=True)
        assert next(iter(stream)) == "1 "
        stream.close()
        gate.opened.set()
        assert generator.closed_early.wait(30)


def test_a_failure_in_the_middle_of_an_answer(kind: Any, tmp_path: Path) -> None:
    def fail(piece: Any) -> None:
        if piece.completion_tokens > 2:
            raise ModelFailed("inside knowledge")

    with (
        served(tmp_path, lambda _: Models(FakeSummaryModel(), InterruptedGenerator(fail))) as url,
        kind(url) as precis,
    ):
        (image,) = precis.add(upload("red"))
        with pytest.raises(ServiceFailed) as caught:
            list(precis.ask("count", image_ids=[image.id], stream=True))
        assert caught.value.status == 500
        assert "inside knowledge" not in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (lambda precis: precis.image("0" * 32), NotFound),
        (lambda precis: precis.image("../metrics"), NotFound),
        (lambda precis: precis.thumbnail("?"), NotFound),
        (lambda precis: precis.add(PictureUpload("a.png", b"")), RequestRejected),
        (lambda precis: precis.add(PictureUpload("a.png", b"text")), UploadUnsupported),
        (lambda precis: precis.add(PictureUpload("a.png", bytes(5000))), UploadTooLarge),
        (lambda precis: precis.search(""), RequestRejected),
        (lambda precis: precis.search("red", limit=0), ValueError),
        (lambda precis: precis.ask("What?", image_ids=["0" * 32]), NotFound),
        (lambda precis: precis.ask("What?", image_ids=["0" * 32], stream=True), NotFound),
        (lambda precis: precis.ask("?" * 3000), RequestRejected),
    ],
)
def test_refusals_have_their_own_errors(
    kind: Any, tmp_path: Path, request_: Callable[[Any], object], error: type[Exception]
) -> None:
    with served(tmp_path, max_upload_bytes=4000) as url, kind(url) as precis:
        with pytest.raises(error) as caught:
            request_(precis)
        assert isinstance(caught.value, PrecisError)
        assert str(caught.value)


def test_a_missing_path_is_the_callers_error(precis: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        precis.add(tmp_path / "missing.png")


def test_the_key(kind: Any, tmp_path: Path) -> None:
    with served(tmp_path, api_key="open sesame") as url:
        with kind(url) as stranger, pytest.raises(AccessDenied):
            stranger.search("red")
        with kind(url, api_key="open sesame") as friend:
            assert friend.search("red") == []


def test_nobody_there(kind: Any) -> None:
    with kind(address_of_nobody()) as precis, pytest.raises(ConnectionFailed):
        precis.search("red")


def test_no_answer_in_time(kind: Any, tmp_path: Path) -> None:
    gate = Gate()
    model = InterruptedModel(lambda batch: gate.pass_through() if "red" in batch else None)
    with served(tmp_path, lambda _: Models(model, FakeGenerator())) as url:
        with kind(url, timeout_s=0.05) as precis, pytest.raises(TimedOut):
            precis.search("red")
        gate.opened.set()


@contextmanager
def _answering(
    kind: Any, *responses: httpx.Response, **options: Any
) -> Iterator[tuple[Any, list[httpx.Request]]]:
    """A client whose service gives these responses, one after the other, and what was asked of it."""
    asked: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return responses[len(asked) - 1]

    with kind("http://precis.test", transport=httpx.MockTransport(respond), **options) as precis:
        yield precis, asked


def _busy(status: int = 429, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, headers=headers, json={"title": "The queue is full", "status": status}
    )


def test_asks_again_when_the_service_is_busy(kind: Any) -> None:
    answer = httpx.Response(200, json={"results": []})
    responses = (_busy(429, **{"Retry-After": "0"}), _busy(503, **{"Retry-After": "0"}), answer)
    with _answering(kind, *responses) as (precis, asked):
        assert precis.search_image(upload("red")) == []
    assert len(asked) == 3
    assert asked[0].read() == asked[2].read() != b""


def test_gives_up_after_the_last_attempt(kind: Any) -> None:
    with (
        _answering(kind, *[_busy(**{"Retry-After": "0"})] * 3, retries=RetryPolicy(attempts=3)) as (
            precis,
            asked,
        ),
        pytest.raises(ServiceBusy, match="The queue is full") as caught,
    ):
        precis.search("red")
    assert caught.value.retry_after_s == 0
    assert len(asked) == 3


def test_does_not_wait_for_longer_than_the_policy_allows(kind: Any) -> None:
    with (
        _answering(kind, _busy(503, **{"Retry-After": "3600"})) as (precis, asked),
        pytest.raises(ServiceBusy) as caught,
    ):
        precis.search("red")
    assert caught.value.retry_after_s == 3600
    assert len(asked) == 1


def test_other_refusals_are_not_repeated(kind: Any) -> None:
    with (
        _answering(kind, httpx.Response(500, text="<html>")) as (precis, asked),
        pytest.raises(ServiceFailed),
    ):
        precis.search("red")
    assert len(asked) == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"results": 1}', b"<html>", b'{"results": [{"id": "a"}]}'], ids=repr
)
def test_answers_of_something_else(kind: Any, body: bytes) -> None:
    with (
        _answering(kind, httpx.Response(200, content=body)) as (precis, _),
        pytest.raises(ResponseInvalid),
    ):
        precis.search("red")


def test_an_answer_that_ends_early(kind: Any) -> None:
    cut = httpx.Response(
        200, content=b'event: piece\ndata: {"text": "I see"}\n\nevent: done\ndata: {"ans'
    )
    with _answering(kind, cut) as (precis, _), pytest.raises(ConnectionFailed):
        list(precis.ask("What?", stream=True))


def test_the_two_clients_have_the_same_methods() -> None:
    def methods(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    assert methods(Precis) == methods(AsyncPrecis)


def test_fewer_tokens_are_kept_where_asked_for(precis: Precis, draw: Draw) -> None:
    path = draw("red.png", "red")
    (image,) = precis.add(path, tokens=2)
    assert isinstance(image, StoredImage)
    assert (image.status, image.tokens.count) == ("created", 2)
    assert (image.model, image.mode) == ("fake colours", "adapters")
    with pytest.raises(RequestRejected, match="1 or 2 or 4 summary tokens, not 3"):
        precis.add(path, tokens=3)
    (source,) = precis.ask("What is there?", image_ids=[image.id]).images
    assert (source.model, source.mode) == ("fake colours", "adapters")
