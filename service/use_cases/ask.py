"""Use case: answer a question from the stored tokens of given images, or of those a search finds.

Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compressor.ports import GenerationLimits, GenerationRequest, Turn
from index.filters import Filter
from index.library import Library
from index.model_info import ModelInfo
from service.errors import ImageNotFound, InvalidInput, NoImagesToAsk
from service.settings import Settings
from service.use_cases.search import Search, checked_text
from service.worker.answer_stream import AnswerStream
from service.worker.request_context import RequestContext, Stopwatch
from service.worker.worker import ModelWorker


@dataclass(frozen=True)
class Source:
    """An image that the answer was made from."""

    id: str
    score: float | None  # cosine to the question; None where the caller named the image
    maker: ModelInfo | None  # of its tokens


@dataclass(frozen=True)
class Question:
    """What is asked, and of which images: those named, or else the `limit` nearest to the text, if
    `where` holds.
    """

    text: str
    image_ids: Sequence[str] | None
    limit: int
    max_tokens: int
    where: Filter | None = None


class Answer:
    """An answer in the making: read `pieces` to the end, then the rest is known."""

    def __init__(self, images: list[Source], stream: AnswerStream, watch: Stopwatch) -> None:
        self.images = images
        self.text = ""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.finish_reason: Literal["stop", "length"] | None = None
        self._stream = stream
        self._watch = watch

    @property
    def timings_ms(self) -> dict[str, float]:
        """Milliseconds by stage so far."""
        return self._watch.timings_ms()

    def pieces(self, caller: RequestContext) -> Iterator[str]:
        """The text as it comes. Raises what the model raised, DeadlineExceeded or RequestCancelled."""
        stage = "first_token"
        for piece in self._stream.read(caller):
            self._watch.lap(stage)
            stage = "generate"
            self.text += piece.text
            self.prompt_tokens, self.completion_tokens = (
                piece.prompt_tokens,
                piece.completion_tokens,
            )
            self.finish_reason = piece.finish_reason
            if piece.text:
                yield piece.text


class Ask:
    """Gathers the tokens that a question is about; the answer itself is made while it is read."""

    def __init__(
        self, worker: ModelWorker, library: Library, search: Search, settings: Settings
    ) -> None:
        self._worker = worker
        self._library = library
        self._search = search
        self._settings = settings

    def __call__(self, question: Question, caller: RequestContext) -> Answer:
        """The answer to come.

        Raises InvalidInput, ImageNotFound, NoImagesToAsk, index.errors.WrongFingerprint and what
        `Search` raises.
        """
        watch = Stopwatch()
        text = checked_text(question.text, self._settings.max_question_chars, "question")
        if question.max_tokens > self._settings.max_answer_tokens:
            raise InvalidInput(f"max_tokens is at most {self._settings.max_answer_tokens}.")
        count = len(question.image_ids) if question.image_ids is not None else question.limit
        if count > self._settings.max_ask_images:
            raise InvalidInput(
                f"A question can be about {self._settings.max_ask_images} images at most."
            )
        if question.image_ids is not None:
            images, tokens = self._named(question.image_ids)
        else:
            images, tokens = self._nearest(text, question, caller)
        watch.lap("find")
        stream = self._worker.answer(
            GenerationRequest(tokens, [Turn("user", text)]),
            GenerationLimits(max_tokens=question.max_tokens),
        )
        caller.expects(stream)
        return Answer(images, stream, watch)

    def _named(self, image_ids: Sequence[str]) -> tuple[list[Source], list[NDArray[np.float32]]]:
        ids = list(dict.fromkeys(image_ids))
        tokens = self._library.tokens(ids)
        unknown = [id_ for id_, each in zip(ids, tokens, strict=True) if each is None]
        if unknown:
            raise ImageNotFound(f"There is no image {', '.join(unknown)}.")
        maker = self._library.model_info(self._library.fingerprint)
        return [Source(id_, None, maker) for id_ in ids], [
            each for each in tokens if each is not None
        ]

    def _nearest(
        self, text: str, question: Question, caller: RequestContext
    ) -> tuple[list[Source], list[NDArray[np.float32]]]:
        hits = self._search.by_text(text, question.limit, caller, question.where).matches
        tokens = self._library.tokens([hit.id for hit in hits])
        maker = self._library.model_info(
            self._library.fingerprint
        )  # tokens of another one are not read
        found = [
            (Source(hit.id, hit.score, maker), each)
            for hit, each in zip(hits, tokens, strict=True)
            if each is not None
        ]  # an image deleted since the search has no tokens any more
        if not found:
            raise NoImagesToAsk(
                "The library has no image that the question could be about; add some first."
            )
        return [source for source, _ in found], [each for _, each in found]
