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

from precis_client import AsyncPrecis, PictureUpload, Precis, RetryPolicy
from precis_client.errors import (
    AccessDenied,
    ConnectionFailed,
    NotFound,
    PrecisError,
    RequestConflict,
    RequestRejected,
    ResponseInvalid,
    ServiceBusy,
    ServiceFailed,
    TimedOut,
    UploadTooLarge,
    UploadUnsupported,
)
from precis_client.results import Answer, FailedFile, StoredImage
from service.errors import ModelFailed
from tests.clients.conftest import Draw
from tests.clients.serving import address_of_nobody, served
from tests.eventually import eventually
from tests.fakes.model import (
    FakeSummaryModel,
    Gate,
    InterruptedGenerator,
    InterruptedModel,
    held_after,
)
from tests.service.conftest import factory, picture


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
        # A transport closes its socket in the loop's next round.
        self._run(asyncio.sleep(0))
        self._run(self._loop.shutdown_asyncgens())
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


def add(precis: Any, colour: str) -> str:
    """Stores a picture of one colour; its id."""
    (image,) = precis.add(upload(colour))
    return image.id


def test_a_picture_is_stored_once(precis: Any, draw: Draw) -> None:
    path = draw("cat.png", "red")
    metadata = {"place": "Zürich"}
    (image,) = precis.add(path, metadata=metadata)
    assert image.status == "created"
    assert image.filename == "cat.png"
    digest = hashlib.sha256(path.read_bytes())
    assert image.sha256 == digest.hexdigest()
    assert image.id == PictureUpload.read(path).id
    assert image.fingerprint == FakeSummaryModel.fingerprint
    token_count, token_dim = FakeSummaryModel.tokens_shape
    assert image.tokens.count == token_count
    assert image.tokens.dim == token_dim
    assert image.width_px == 40
    assert image.height_px == 30
    (again,) = precis.add(str(path))
    assert again.status == "exists"
    assert again.id == image.id
    stored = precis.image(image.id)
    assert stored.metadata == metadata
    assert stored.created_at_ms == image.created_at_ms


def test_of_several_files_a_bad_one_fails_alone(precis: Any) -> None:
    bad = PictureUpload("b.jpg", b"no picture")
    files = [upload("red"), bad, upload("blue", "c.png")]
    first, second, third = precis.add(*files)
    assert isinstance(first, StoredImage)
    assert isinstance(third, StoredImage)
    assert isinstance(second, FailedFile)
    assert second.filename == "b.jpg"
    assert second.error.detail


def test_metadata_for_each_file(precis: Any) -> None:
    metadata = [{"n": 1}, {"n": 2}]
    files = [upload("red"), upload("blue")]
    images = precis.add(*files, metadata=metadata)
    assert [image.metadata for image in images] == metadata


def test_images_come_page_by_page(precis: Any) -> None:
    colours = ["red", "green", "blue", "yellow", "black"]
    ids = [add(precis, colour) for colour in colours]
    images = precis.images(page_size=2)
    assert [image.id for image in images] == ids


def test_metadata_are_replaced_and_filtered(precis: Any) -> None:
    red, blue = add(precis, "red"), add(precis, "blue")
    changed = precis.set_metadata(red, {"year": 2020, "tags": ["warm"]})
    assert changed.metadata == {"year": 2020, "tags": ["warm"]}
    precis.set_metadata(blue, {"year": 2021})
    where = {"year": {"gte": 2021}}
    assert [image.id for image in precis.images(where=where)] == [blue]
    assert [image.id for image in precis.images(tags=["warm"])] == [red]
    assert [hit.id for hit in precis.search("red", where=where)] == [blue]
    assert [hit.id for hit in precis.search_image(upload("red"), where=where)] == [blue]
    assert [hit.id for hit in precis.similar(red, tags=["warm"])] == []
    answer = precis.ask("Where is the red one?", where=where)
    assert [source.id for source in answer.images] == [blue]
    assert [image.id for image in precis.images(order="newest")] == [blue, red]


def test_hits_are_skipped_and_ordered(precis: Any) -> None:
    ids = [add(precis, colour) for colour in ("red", "green", "blue")]
    best = [hit.id for hit in precis.search("something blue")]
    assert [hit.id for hit in precis.search("something blue", offset=1)] == best[1:]
    newest = precis.search("something blue", order="newest")
    assert [hit.id for hit in newest] == ids[::-1]


def test_an_original_and_its_words(kind: Any, tmp_path: Path) -> None:
    with served(tmp_path, keep="original") as url, kind(url) as precis:
        red = add(precis, "red")
        assert precis.original(red) == picture("red")
        assert precis.view(red, side_px=64)[8:12] == b"WEBP"
        assert precis.image(red).words is None  # the fake model's codec knows no words


def test_words_are_read(kind: Any) -> None:
    body = {
        "id": "a",
        "sha256": "b",
        "fingerprint": "c",
        "tokens": {"count": 1, "dim": 2, "codec": "mix2", "bytes": 3},
        "width_px": 4,
        "height_px": 5,
        "created_at_ms": 6,
        "metadata": {},
        "words": [[{"text": " cat", "weight": 0.9}, {"text": " dog", "weight": 0.1}]],
    }
    with _answering(kind, httpx.Response(200, json=body)) as (precis, _):
        words = precis.image("a").words
    assert [(word.text, word.weight) for word in words[0]] == [
        (" cat", 0.9),
        (" dog", 0.1),
    ]


def test_tokens_move_to_another_library(precis: Any, url: str, kind: Any) -> None:
    red = add(precis, "red")
    precis.create_collection("copies")
    assert precis.collections() == ["copies"]
    with kind(url, collection="copies") as copies:
        (copied,) = copies.add_tokens(precis.tokens(red))
        assert copied.status == "created"
        assert [image.id for image in copies.images()] == [red]
    with pytest.raises(RequestConflict):
        precis.create_collection("copies")
    precis.delete_collection("copies")
    assert precis.collections() == []


def test_texts_are_embedded(precis: Any) -> None:
    red = add(precis, "red")
    result = precis.embed("something red", "something blue")
    assert len(result.embeddings) == 2
    assert result.fingerprint == precis.image(red).fingerprint


def test_pictures_are_stored_after_the_answer(precis: Any) -> None:
    job = precis.add_later(upload("red"), upload("blue"), metadata={"a": 1})
    eventually(lambda: precis.job(job.id).state == "done")
    first = precis.job(job.id, limit=1, offset=1)
    assert [file.status for file in first.files] == ["created"]
    assert [image.metadata for image in precis.images()] == [{"a": 1}] * 2
    later = precis.add_later(upload("green"))
    assert [each.id for each in precis.jobs(page_size=1)] == [later.id, job.id]


def test_a_conversation_goes_on(precis: Any) -> None:
    red = add(precis, "red")
    history = [
        {"role": "user", "text": "What is in the image?"},
        {"role": "assistant", "text": "I see red."},
    ]
    answer = precis.ask("And what else?", image_ids=[red], history=history)
    alone = precis.ask("And what else?", image_ids=[red])
    assert answer.usage.prompt_tokens > alone.usage.prompt_tokens


def test_what_the_service_runs(precis: Any) -> None:
    precis.check_ready()
    assert precis.models()


def test_the_environment_names_service_and_key(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, api_key="open sesame") as url:
        monkeypatch.setenv("PRECIS_URL", url)
        monkeypatch.setenv("PRECIS_API_KEY", "open sesame")
        with kind() as precis:
            assert precis.search("red") == []
        with kind(api_key="") as precis, pytest.raises(AccessDenied):
            precis.search("red")
    with kind(address_of_nobody()) as precis, pytest.raises(ConnectionFailed):
        precis.search("red")


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
    red = add(precis, "red")
    blue = add(precis, "blue")
    hits = precis.search("something blue")
    assert [hit.id for hit in hits] == [blue, red]
    assert hits[0].score > hits[1].score
    query = draw("query.png", "red", (50, 50))
    (hit,) = precis.search_image(query, limit=1)
    assert hit.id == red
    assert len(list(precis.images())) == 2
    both = precis.search_image(query, text="something blue", text_weight=0.9)
    assert [hit.id for hit in both] == [blue, red]
    (other,) = precis.search_image(image_ids=[red], text="blue")
    assert other.id == blue


def test_ask_about_named_and_about_found_images(precis: Any) -> None:
    red = add(precis, "red")
    blue = add(precis, "blue")
    answer = precis.ask("What is in the image?", image_ids=(red, blue))
    assert answer.answer == "I see red blue."
    assert [source.id for source in answer.images] == [red, blue]
    assert [source.score for source in answer.images] == [None, None]
    assert answer.finish_reason == "stop"
    assert answer.usage.completion_tokens > 0
    found = precis.ask("Where is the blue one?", limit=1)
    assert found.answer == "I see blue."
    assert found.images[0].score is not None
    assert precis.ask("Please count", max_tokens=3).finish_reason == "length"


def test_an_answer_in_pieces(precis: Any) -> None:
    red = add(precis, "red")
    stream = precis.ask("What?", image_ids=[red], stream=True)
    assert stream.answer is None
    pieces = list(stream)
    assert len(pieces) > 1
    assert "".join(pieces) == "I see red."
    assert stream.answer.answer == "I see red."
    assert stream.answer.images[0].id == red


def test_hanging_up_in_the_middle_of_an_answer(kind: Any, tmp_path: Path) -> None:
    gate, generator = held_after(2)
    with served(tmp_path, factory(generator=generator)) as url, kind(url) as precis:
        red = add(precis, "red")
        stream = precis.ask("count", image_ids=[red], stream=True)
        assert next(iter(stream)) == "1 "
        stream.close()
        gate.opened.set()
        assert generator.closed_early.wait(30)


def test_a_failure_in_the_middle_of_an_answer(kind: Any, tmp_path: Path) -> None:
    def fail(piece: Any) -> None:
        if piece.completion_tokens > 2:
            raise ModelFailed("inside knowledge")

    generator = InterruptedGenerator(fail)
    with served(tmp_path, factory(generator=generator)) as url, kind(url) as precis:
        red = add(precis, "red")
        stream = precis.ask("count", image_ids=[red], stream=True)
        with pytest.raises(ServiceFailed) as caught:
            list(stream)
        assert caught.value.status == 500
        assert "inside knowledge" not in str(caught.value)


UNKNOWN = "0" * 32
REFUSALS: dict[str, tuple[Callable[[Any], object], type[Exception]]] = {
    "unknown id": (lambda precis: precis.image(UNKNOWN), NotFound),
    "path": (lambda precis: precis.image("../metrics"), NotFound),
    "query": (lambda precis: precis.thumbnail("?"), NotFound),
    "empty file": (lambda precis: add_bytes(precis, b""), RequestRejected),
    "text file": (lambda precis: add_bytes(precis, b"text"), UploadUnsupported),
    "large file": (lambda precis: add_bytes(precis, bytes(5000)), UploadTooLarge),
    "empty search": (lambda precis: precis.search(""), RequestRejected),
    "no hits": (lambda precis: precis.search("red", limit=0), ValueError),
    "unknown image": (lambda precis: ask_unknown(precis), NotFound),
    "in a stream": (lambda precis: ask_unknown(precis, stream=True), NotFound),
    "long question": (lambda precis: precis.ask("?" * 3000), RequestRejected),
}


def add_bytes(precis: Any, data: bytes) -> object:
    return precis.add(PictureUpload("a.png", data))


def ask_unknown(precis: Any, **options: Any) -> object:
    return precis.ask("What?", image_ids=[UNKNOWN], **options)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refusals_have_their_own_errors(
    kind: Any, tmp_path: Path, refusal: str
) -> None:
    request, error = REFUSALS[refusal]
    with served(tmp_path, max_upload_bytes=4000) as url, kind(url) as precis:
        with pytest.raises(error) as caught:
            request(precis)
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

    def hold_red(batch: Any) -> None:
        if "red" in batch:
            gate.pass_through()

    model = InterruptedModel(hold_red)
    with served(tmp_path, factory(model)) as url:
        with kind(url, timeout_s=0.05) as precis, pytest.raises(TimedOut):
            precis.search("red")
        gate.opened.set()


@contextmanager
def _answering(
    kind: Any, *responses: httpx.Response, **options: Any
) -> Iterator[tuple[Any, list[httpx.Request]]]:
    """A client whose service gives these responses in turn, and the requests it received."""
    requests: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return responses[len(requests) - 1]

    transport = httpx.MockTransport(respond)
    with kind("http://precis.test", transport=transport, **options) as precis:
        yield precis, requests


def _busy(status: int = 429, after_s: int = 0) -> httpx.Response:
    body = {"title": "The queue is full", "status": status}
    headers = {"Retry-After": str(after_s)}
    return httpx.Response(status, headers=headers, json=body)


def test_an_import_and_its_job(kind: Any, tmp_path: Path) -> None:
    root = tmp_path / "import"
    root.mkdir()
    (root / "red.png").write_bytes(picture("red"))
    (root / "text.png").write_bytes(b"text")
    with served(tmp_path / "data", import_dir=root) as url, kind(url) as precis:
        begun = precis.import_pictures(".", metadata={"tags": ["a"]}, tokens=None)
        assert begun.path == "."
        eventually(lambda: precis.job(begun.id).state == "done")
        job = precis.job(begun.id)
        assert job.counts == {"created": 1, "failed": 1}
        assert job.files[0].error.status == 415
        precis.cancel_job(begun.id)
        assert precis.job(begun.id) == job
        with pytest.raises(NotFound):
            precis.job("unknown")
        with pytest.raises(RequestRejected):
            precis.import_pictures("..")


def test_asks_again_when_the_service_is_busy(kind: Any) -> None:
    answer = httpx.Response(200, json={"results": []})
    responses = [_busy(429), _busy(503), _busy(504), answer]
    with _answering(kind, *responses) as (precis, requests):
        assert precis.search_image(upload("red")) == []
    first, *_, last = [request.read() for request in requests]
    assert len(requests) == 4
    assert first == last != b""


def test_gives_up_after_the_last_attempt(kind: Any) -> None:
    busy = [_busy()] * 3
    policy = RetryPolicy(attempts=3)
    with _answering(kind, *busy, retries=policy) as (precis, requests):
        with pytest.raises(ServiceBusy, match="The queue is full") as caught:
            precis.search("red")
        assert caught.value.retry_after_s == 0
        assert len(requests) == 3


def test_does_not_wait_for_longer_than_the_policy_allows(kind: Any) -> None:
    with (
        _answering(kind, _busy(503, after_s=3600)) as (precis, requests),
        pytest.raises(ServiceBusy) as caught,
    ):
        precis.search("red")
    assert caught.value.retry_after_s == 3600
    assert len(requests) == 1


def test_other_refusals_are_not_repeated(kind: Any) -> None:
    failure = httpx.Response(500, text="<html>")
    with _answering(kind, failure) as (precis, requests), pytest.raises(ServiceFailed):
        precis.search("red")
    assert len(requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"results": 1}', b"<html>", b'{"results": [{"id": "a"}]}'],
    ids=repr,
)
def test_answers_of_something_else(kind: Any, body: bytes) -> None:
    response = httpx.Response(200, content=body)
    with _answering(kind, response) as (precis, _), pytest.raises(ResponseInvalid):
        precis.search("red")


def test_an_answer_that_ends_early(kind: Any) -> None:
    content = b'event: piece\ndata: {"text": "I see"}\n\nevent: done\ndata: {"ans'
    cut = httpx.Response(200, content=content)
    with _answering(kind, cut) as (precis, _), pytest.raises(ConnectionFailed):
        list(precis.ask("What?", stream=True))


def test_the_two_clients_have_the_same_methods() -> None:
    def methods(client: type) -> dict[str, list[str]]:
        parameters = {}
        for name, member in inspect.getmembers(client, inspect.isfunction):
            if not name.startswith("_") or name == "__init__":
                signature = inspect.signature(member)
                parameters[name] = list(signature.parameters)
        return parameters

    assert methods(Precis) == methods(AsyncPrecis)


def test_fewer_tokens_are_kept_where_asked_for(precis: Precis, draw: Draw) -> None:
    path = draw("red.png", "red")
    (image,) = precis.add(path, tokens=2)
    assert isinstance(image, StoredImage)
    assert image.status == "created"
    assert image.tokens.count == 2
    assert image.model == "fake colours"
    assert image.mode == "adapters"
    with pytest.raises(RequestRejected, match="1 or 2 or 4 summary tokens, not 3"):
        precis.add(path, tokens=3)
    answer = precis.ask("What is there?", image_ids=[image.id])
    (source,) = answer.images
    assert source.model == "fake colours"
    assert source.mode == "adapters"
