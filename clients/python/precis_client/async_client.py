"""The asynchronous client, method for method like the synchronous one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self, TypeVar, overload

import httpx

from precis_client import calls, routes
from precis_client.calls import Call
from precis_client.events import AnswerReader
from precis_client.results import (
    Answer,
    DetailedImage,
    Embeddings,
    FailedFile,
    Hit,
    Image,
    Job,
    JobsPage,
    JobSummary,
    Page,
    StoredImage,
)
from precis_client.retries import AsyncRetryTransport, RetryPolicy
from precis_client.routes import HitOrder, ListOrder, Metadata, Selection, Turn, Where
from precis_client.uploads import PictureFile, PictureUpload, as_upload

T = TypeVar("T")
P = TypeVar("P", Page, JobsPage)


class AsyncAnswerStream:
    """An answer as it is generated: iterate over its pieces of text, then read `answer`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._reader = AnswerReader()

    @property
    def answer(self) -> Answer | None:
        """The whole answer, or None until the last piece has been read."""
        return self._reader.answer

    async def __aiter__(self) -> AsyncIterator[str]:
        """Pieces of text. Raises ServiceProblem, ConnectionFailed, TimedOut or ResponseInvalid."""
        with calls.translated():
            async with self:
                async for line in self._response.aiter_lines():
                    if text := self._reader.feed(line):
                        yield text
        self._reader.finish()

    async def close(self) -> None:
        """Disconnects; the service stops generating."""
        await self._response.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncPrecis:
    """A client of one service. Every method raises errors of `precis_client.errors`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = calls.TIMEOUT_S,
        collection: str | None = None,
        retries: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """All calls are about `collection`, or about the library without a name.

        Without `url` the service is that of PRECIS_URL, or the local one. Without `api_key` the key
        is that of PRECIS_API_KEY, if any; an empty one means none. `timeout_s` is the longest wait
        for the next bytes of a request or its answer.
        """
        inner = transport if transport is not None else httpx.AsyncHTTPTransport()
        self._http = httpx.AsyncClient(
            transport=AsyncRetryTransport(inner, retries or RetryPolicy()),
            **calls.http_options(url, api_key, timeout_s, collection),
        )
        self._collection = collection

    @property
    def url(self) -> str:
        """The address of the service."""
        return str(self._http.base_url).rstrip("/")

    @property
    def collection(self) -> str | None:
        """The collection that calls are about; None for the library without a name."""
        return self._collection

    @overload
    async def add(
        self,
        file: PictureFile | PictureUpload,
        /,
        *,
        metadata: Metadata | None = None,
        tokens: int | None = None,
    ) -> list[StoredImage]: ...

    @overload
    async def add(
        self,
        *files: PictureFile | PictureUpload,
        metadata: Metadata | None = None,
        tokens: int | None = None,
    ) -> list[StoredImage | FailedFile]: ...

    async def add(
        self,
        *files: PictureFile | PictureUpload,
        metadata: Metadata | None = None,
        tokens: int | None = None,
    ) -> list[StoredImage] | list[StoredImage | FailedFile]:
        """Stores pictures, in one request.

        `metadata` is a JSON object for all of them, or a list with one for each. The first `tokens`
        summary tokens of each picture are kept, or all if None; it must be a budget of the model.
        Of several files, one that is not a readable picture fails alone. Raises RequestRejected if
        every file fails, OSError for a path that cannot be opened.
        """
        uploads = [as_upload(file) for file in files]
        if len(uploads) == 1:
            return await self._send(routes.add_image(uploads[0], metadata, tokens))
        return await self._send(routes.add_images(uploads, metadata, tokens))

    async def import_pictures(
        self,
        path: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        tokens: int | None = None,
    ) -> Job:
        """Begins to import pictures from the service's own disk; `path` is below PRECIS_IMPORT_DIR.

        A picture, a folder, a tar or a Parquet file; `metadata` and `tokens` as of `add`.
        """
        return await self._send(routes.import_pictures(path, metadata, tokens))

    async def add_later(
        self,
        *files: PictureFile | PictureUpload,
        metadata: Metadata | None = None,
        tokens: int | None = None,
    ) -> Job:
        """Sends pictures for the service to store after its answer; else as `add`.

        The job survives a restart of the service. `job` says where it stands.
        """
        uploads = [as_upload(file) for file in files]
        return await self._send(routes.add_images_later(uploads, metadata, tokens))

    async def jobs(
        self, *, page_size: int = routes.PAGE_SIZE
    ) -> AsyncIterator[JobSummary]:
        """The jobs, newest first, without their files, fetched a page at a time."""
        async for page in self._pages(partial(routes.list_jobs, page_size)):
            for job in page.jobs:
                yield job

    async def job(
        self, job_id: str, *, limit: int = routes.JOB_FILES, offset: int = 0
    ) -> Job:
        """Where a job stands, with `limit` of its files from the one at `offset` on."""
        return await self._send(routes.get_job(job_id, limit, offset))

    async def cancel_job(self, job_id: str) -> None:
        """Cancels the rest of a job; images that are already stored remain."""
        await self._send(routes.cancel_job(job_id))

    async def images(
        self,
        *,
        page_size: int = routes.PAGE_SIZE,
        order: ListOrder = "oldest",
        where: Where | None = None,
        tags: Sequence[str] = (),
        id_prefix: str | None = None,
    ) -> AsyncIterator[Image]:
        """The images in this order, fetched a page at a time; `taken`: those with a date alone.

        `where`, a filter over metadata such as `{"year": {"gte": 2020}}`, and `tags`, all of which
        an image must have, restrict them; docs/api.md describes filters. With `id_prefix`, only
        images whose ids begin so.
        """
        call = partial(
            routes.list_images,
            page_size,
            order=order,
            selection=Selection(where, tags),
            id_prefix=id_prefix,
        )
        async for page in self._pages(call):
            for image in page.images:
                yield image

    async def image(self, image_id: str) -> DetailedImage:
        """The record of an image, and its summary tokens in words."""
        return await self._send(routes.get_image(image_id))

    async def set_metadata(
        self, image_id: str, metadata: Mapping[str, Any]
    ) -> DetailedImage:
        """Puts other metadata in place of an image's, all of them; its record after that."""
        return await self._send(routes.put_metadata(image_id, metadata))

    async def thumbnail(self, image_id: str) -> bytes:
        """A small WebP of an image."""
        return await self._send(routes.get_thumbnail(image_id))

    def thumbnail_url(self, image_id: str) -> str:
        """The address of the thumbnail, for programs that fetch it with the same API key."""
        return str(routes.get_thumbnail(image_id).request(self._http).url)

    async def view(self, image_id: str, *, side_px: int | None = None) -> bytes:
        """A WebP of an image, its longer side `side_px` at most, where a picture was kept.

        Of an image without an original it is the thumbnail. Raises NotFound.
        """
        return await self._send(routes.get_view(image_id, side_px))

    async def original(self, image_id: str) -> bytes:
        """The file that was uploaded, where the service keeps originals; else raises NotFound."""
        return await self._send(routes.get_original(image_id))

    async def tokens(self, image_id: str) -> bytes:
        """The summary tokens and the embedding of an image, a file for `add_tokens`."""
        return await self._send(routes.get_tokens(image_id))

    async def add_tokens(self, *files: bytes) -> list[StoredImage]:
        """Stores images by their tokens, made by the same model elsewhere: all of them or none.

        Raises RequestConflict if another model made them.
        """
        return await self._send(routes.add_tokens(files))

    async def similar(
        self,
        image_id: str,
        *,
        limit: int = routes.HITS,
        offset: int = 0,
        where: Where | None = None,
        tags: Sequence[str] = (),
    ) -> list[Hit]:
        """The other images most similar to a stored one, best first.

        `where` and `tags` restrict them, as those of `images`.
        """
        selection = Selection(where, tags, limit, offset)
        return await self._send(routes.similar_images(image_id, selection))

    async def delete(self, image_id: str) -> None:
        """Deletes an image."""
        await self._send(routes.delete_image(image_id))

    async def search(
        self,
        query: str,
        *,
        limit: int = routes.HITS,
        offset: int = 0,
        order: HitOrder = "best",
        min_probability: float | None = None,
        where: Where | None = None,
        tags: Sequence[str] = (),
    ) -> list[Hit]:
        """The images that match a text, best first, without the first `offset`.

        `order` is that of the hits returned. `min_probability`, from 0 to 1, leaves out those that
        match less probably; `where` and `tags` restrict the images, as those of `images`.
        """
        selection = Selection(where, tags, limit, offset, order)
        return await self._send(routes.search_text(query, min_probability, selection))

    async def search_image(
        self,
        *files: PictureFile | PictureUpload,
        image_ids: Sequence[str] = (),
        text: str | None = None,
        text_weight: float | None = None,
        limit: int = routes.HITS,
        offset: int = 0,
        order: HitOrder = "best",
        where: Where | None = None,
        tags: Sequence[str] = (),
    ) -> list[Hit]:
        """The images most similar to pictures and stored images, best first.

        With a text the hits fit that too; `text_weight`, from 0 to 1, says how much it counts. The
        pictures are not stored; the images named are no hits. The rest is as in `search`.
        """
        uploads = [as_upload(file) for file in files]
        selection = Selection(where, tags, limit, offset, order)
        call = routes.search_image(uploads, image_ids, text, text_weight, selection)
        return await self._send(call)

    @overload
    async def ask(
        self,
        question: str,
        *,
        image_ids: Sequence[str] | None = None,
        limit: int | None = None,
        max_tokens: int | None = None,
        format: Mapping[str, Any] | None = None,
        history: Sequence[Turn] = (),
        where: Where | None = None,
        tags: Sequence[str] = (),
        library: bool = False,
        stream: Literal[False] = False,
    ) -> Answer: ...

    @overload
    async def ask(
        self,
        question: str,
        *,
        image_ids: Sequence[str] | None = None,
        limit: int | None = None,
        max_tokens: int | None = None,
        format: Mapping[str, Any] | None = None,
        history: Sequence[Turn] = (),
        where: Where | None = None,
        tags: Sequence[str] = (),
        library: bool = False,
        stream: Literal[True],
    ) -> AsyncAnswerStream: ...

    async def ask(
        self,
        question: str,
        *,
        image_ids: Sequence[str] | None = None,
        limit: int | None = None,
        max_tokens: int | None = None,
        format: Mapping[str, Any] | None = None,
        history: Sequence[Turn] = (),
        where: Where | None = None,
        tags: Sequence[str] = (),
        library: bool = False,
        stream: bool = False,
    ) -> Answer | AsyncAnswerStream:
        """Answers a question about the named images, or about the `limit` best matches.

        With `library` the question is about all images: the `limit` best matches of what it asks
        about answer together, and `images` of the answer say which support it (`cited`). `format`
        is the form that the answer must have, such as `{"type": "yes_no"}`; docs/api.md has all.
        `history` is the conversation that the question continues, oldest turn first. `where` and
        `tags` restrict the images searched, as those of `images`.
        """
        call = routes.ask(
            question,
            image_ids=image_ids,
            limit=limit,
            max_tokens=max_tokens,
            format=format,
            history=history,
            where=where,
            tags=tags,
            library=library,
            stream=stream,
        )
        if not stream:
            return await self._send(call)
        with calls.translated():
            response = await self._http.send(call.request(self._http), stream=True)
            if not response.is_success:
                await response.aread()
        calls.check(response)
        return AsyncAnswerStream(response)

    async def embed(self, *texts: str) -> Embeddings:
        """Texts as vectors, to be compared with those in token files."""
        return await self._send(routes.embed_texts(texts))

    async def collections(self) -> list[str]:
        """The names of all collections."""
        return await self._send(routes.list_collections())

    async def create_collection(self, name: str) -> None:
        """Makes a new, empty collection. Raises RequestConflict if there is one of this name."""
        await self._send(routes.create_collection(name))

    async def delete_collection(self, name: str) -> None:
        """Deletes a collection with all its images."""
        await self._send(routes.delete_collection(name))

    async def models(self) -> list[str]:
        """The names of the model that the service runs."""
        return await self._send(routes.list_models())

    async def check_ready(self) -> None:
        """Raises ServiceBusy while the model is loading, once the retries are used up."""
        await self._send(routes.get_ready())

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _pages(self, call: Callable[[str | None], Call[P]]) -> AsyncIterator[P]:
        """The pages of a list, each fetched once the one before has been read."""
        cursor = None
        while True:
            page = await self._send(call(cursor))
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _send(self, call: Call[T]) -> T:
        with calls.translated():
            response = await self._http.send(call.request(self._http))
        return call.result(response)
