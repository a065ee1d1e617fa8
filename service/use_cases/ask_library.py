"""Use case: a question is answered from the whole library, with the images that support it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from compressor.text import normalise_text
from index.errors import LibraryError
from service.errors import ImageNotFound, QueueFull
from service.settings import Settings
from service.use_cases.ask import Answer, Ask, Question, Source
from service.use_cases.question_query import query_of
from service.use_cases.refusals import is_refusal
from service.worker.request_context import RequestContext

_LIMIT = 4  # images, unless the caller says otherwise


@dataclass(frozen=True)
class Citation:
    """An image that the answer was made from, and what it says by itself."""

    source: Source
    answer: str | None  # None where it could not be asked
    confidence: float | None

    def is_cited(self, answer: str) -> bool | None:
        """Whether the image by itself gives this answer.

        None where it could not be asked, and for "I cannot tell": no picture supports that.
        """
        if self.answer is None or is_refusal(answer):
            return None
        return normalise_text(self.answer) == normalise_text(answer)


class LibraryAnswer:
    """An answer from all images found, and then each one's own; complete once `pieces` is read."""

    def __init__(self, ask: Ask, question: Question, joint: Answer) -> None:
        self.query = question.search_text
        self.joint = joint  # from all images together
        self.citations: list[Citation] = []
        self._ask = ask
        self._question = question

    def pieces(self, context: RequestContext) -> Iterator[str]:
        """The text as it comes. Raises what `Answer.pieces` raises."""
        yield from self.joint.pieces(context)
        self.citations = self._cited(context)
        self.joint.lap("cite")

    def _cited(self, context: RequestContext) -> list[Citation]:
        joint = self.joint
        if len(joint.images) == 1:
            (source,) = joint.images
            return [Citation(source, joint.text, joint.confidence)]
        # All are queued before the first is read, so that the model answers them together.
        own = [self._own(source, context) for source in joint.images]
        citations: list[Citation] = []
        for source, answer in zip(joint.images, own, strict=True):
            if answer is None:
                citations.append(Citation(source, None, None))
                continue
            for _ in answer.pieces(context):
                pass
            citations.append(Citation(source, answer.text, answer.confidence))
        return citations

    def _own(self, source: Source, context: RequestContext) -> Answer | None:
        question = replace(self._question, image_ids=[source.id])
        try:
            return self._ask(question, context)
        except (ImageNotFound, QueueFull, LibraryError):
            # The answer itself is complete; it must not fail for want of a citation.
            return None


class AskLibrary:
    """Searches with a question, rewritten into a query, and asks all hits together."""

    def __init__(self, ask: Ask, settings: Settings) -> None:
        self._ask = ask
        self._settings = settings

    def __call__(
        self, question: Question, limit: int | None, context: RequestContext
    ) -> LibraryAnswer:
        """The answer from up to `limit` images, not yet generated. Raises what `Ask` raises."""
        question = replace(
            question,
            search_text=query_of(question.text),
            limit=limit or min(_LIMIT, self._settings.max_ask_images),
        )
        return LibraryAnswer(self._ask, question, self._ask(question, context))
