"""Use case: answer a question from the stored tokens of images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compressor.ports import (
    Constraint,
    GenerationLimits,
    GenerationRequest,
    Piece,
    Turn,
)
from index.calibration import AnswerCalibration
from index.filters import Filter
from index.library import Library
from index.model_info import ModelInfo
from service.errors import ImageNotFound, InvalidInput, NoImagesToAsk
from service.settings import Settings
from service.use_cases.picture_text import (
    CANNOT_READ,
    is_about_text,
    picture_text,
    with_picture_text,
)
from service.use_cases.search import Search, checked_text
from service.use_cases.stop_sequences import StopSequences
from service.worker.answer_stream import AnswerStream
from service.worker.request_context import RequestContext, Stopwatch
from service.worker.worker import ModelWorker

MAX_HISTORY_TURNS = 64
Tokens = NDArray[np.float32]  # (K, D)
# The model alone, the model with the text that was read in the pictures, or a rule.
MadeFrom = Literal["model", "ocr", "rule"]


@dataclass(frozen=True)
class Source:
    """An image that the answer is based on."""

    id: str
    score: float | None  # cosine to the question; None where the client named the image
    model_info: ModelInfo | None  # of its tokens


@dataclass(frozen=True)
class Question:
    """A question about the images named, or about the `limit` nearest to it that pass `where`."""

    text: str
    image_ids: Sequence[str] | None
    limit: int
    max_tokens: int
    where: Filter | None = None
    history: Sequence[Turn] = ()  # of the conversation that it continues
    constraint: Constraint | None = None  # of what the answer may be
    search_text: str | None = None  # to search with in place of the question
    stop: Sequence[str] = ()  # the answer ends before the first of these


class RuleStream:
    """An answer without a model, read as those of the model are."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self, _context: RequestContext) -> Generator[Piece]:
        """The answer as one piece."""
        yield Piece(0, self._text, 0, 0, "stop")


class Answer:
    """An answer that is generated while `pieces` is read; complete when it has been read."""

    def __init__(
        self,
        images: list[Source],
        stream: AnswerStream | RuleStream,
        watch: Stopwatch,
        calibration: AnswerCalibration | None,
        made_from: MadeFrom = "model",
        stop: Sequence[str] = (),
    ) -> None:
        self.images = images
        self.made_from = made_from
        self.text = ""
        # Of the tokens, or that the answer is right where there is a calibration; None where the
        # generator does not know.
        self.confidence: float | None = None
        # None where there is no calibration, and so no threshold.
        self.unsure: bool | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.finish_reason: Literal["stop", "length"] | None = None
        self._stream = stream
        self._watch = watch
        self._calibration = calibration
        self._stops = StopSequences(stop)

    @property
    def timings_ms(self) -> dict[str, float]:
        """Milliseconds by stage so far."""
        return self._watch.timings_ms()

    def lap(self, stage: str) -> None:
        """Ends a stage of the timings that its caller has added."""
        self._watch.lap(stage)

    def pieces(self, context: RequestContext) -> Iterator[str]:
        """The text as it comes.

        Raises what the model raised, DeadlineExceeded or RequestCancelled.
        """
        stage = "first_token"
        try:
            # Closed once a stop sequence is found: the model writes no further.
            with closing(self._stream.read(context)) as pieces:
                for piece in pieces:
                    if not piece.completion_tokens and piece.finish_reason is None:
                        continue  # the prompt is still being read
                    self._watch.lap(stage)
                    stage = "generate"
                    text = self._take(piece)
                    if text:
                        yield text
                    if self._stops.found:
                        return
        finally:
            self._watch.report()

    def _take(self, piece: Piece) -> str:
        """Adds a piece; the text that can be shown now."""
        text = self._stops.push(piece.text, is_last=piece.finish_reason is not None)
        self.text += text
        self.prompt_tokens = piece.prompt_tokens
        self.completion_tokens = piece.completion_tokens
        self.finish_reason = "stop" if self._stops.found else piece.finish_reason
        self._judge(piece.mean_probability)
        return text

    def _judge(self, mean_probability: float | None) -> None:
        """Sets confidence and unsure from the mean probability of the tokens so far."""
        self.confidence = mean_probability
        calibration = self._calibration
        if calibration is not None and mean_probability is not None:
            self.confidence = calibration.curve.probability(mean_probability)
            self.unsure = calibration.is_unsure(self.confidence)


class Ask:
    """Gathers the tokens that a question is about, and queues the answer."""

    def __init__(
        self,
        worker: ModelWorker,
        library: Library,
        search: Search,
        settings: Settings,
        new_watch: Callable[[], Stopwatch],
        calibration: AnswerCalibration | None,
        *,
        reads_text: bool,
    ) -> None:
        """`reads_text` says whether the model itself can answer questions about text."""
        self._new_watch = new_watch
        self._worker = worker
        self._library = library
        self._search = search
        self._settings = settings
        self._calibration = calibration
        self._reads_text = reads_text

    def __call__(self, question: Question, context: RequestContext) -> Answer:
        """The answer, not yet generated.

        Raises InvalidInput, ImageNotFound, NoImagesToAsk, index.errors.WrongFingerprint and what
        `Search` raises.
        """
        watch = self._new_watch()
        text = self._checked(question)
        if question.image_ids is not None:
            sources, tokens = self._named(question.image_ids)
        else:
            sources, tokens = self._nearest(text, question, context)
        watch.lap("find")
        made_from: MadeFrom = "model"
        if is_about_text(text):
            texts = self._picture_texts(sources)
            if texts:
                made_from = "ocr"
                text = with_picture_text(texts, text)
            elif not self._reads_text and question.constraint is None:
                rule = RuleStream(CANNOT_READ)
                return Answer(sources, rule, watch, None, "rule", question.stop)
        stream = self._worker.answer(
            GenerationRequest(
                tokens, [*question.history, Turn("user", text)], question.constraint
            ),
            GenerationLimits(question.max_tokens, self._settings.max_prompt_tokens),
        )
        context.track(stream)
        # Fitted on answers that were free.
        calibration = self._calibration if question.constraint is None else None
        return Answer(sources, stream, watch, calibration, made_from, question.stop)

    def _picture_texts(self, sources: Sequence[Source]) -> list[str]:
        """What was read in the pictures that have text."""
        records = self._library.get([source.id for source in sources])
        texts = [picture_text(record.metadata) for record in records if record]
        return [text for text in texts if text]

    def _checked(self, question: Question) -> str:
        """The question's text. Raises InvalidInput for a question that exceeds a limit."""
        settings = self._settings
        text = checked_text(question.text, settings.max_question_chars, "question")
        if len(question.history) > MAX_HISTORY_TURNS:
            raise InvalidInput(
                f"A conversation has at most {MAX_HISTORY_TURNS} turns before the question."
            )
        for turn in question.history:
            checked_text(turn.text, settings.max_question_chars, "turn")
        if question.max_tokens > settings.max_answer_tokens:
            raise InvalidInput(f"max_tokens is at most {settings.max_answer_tokens}.")
        named = question.image_ids
        image_count = question.limit if named is None else len(named)
        if image_count > settings.max_ask_images:
            raise InvalidInput(
                f"A question can be about {settings.max_ask_images} images at most,"
                f" not {image_count}."
            )
        return text

    def _named(self, image_ids: Sequence[str]) -> tuple[list[Source], list[Tokens]]:
        ids = list(dict.fromkeys(image_ids))
        model_info = self._library.model_info(self._library.fingerprint)
        sources: list[Source] = []
        tokens: list[Tokens] = []
        unknown: list[str] = []
        for id_, stored in zip(ids, self._library.tokens(ids), strict=True):
            if stored is None:
                unknown.append(id_)
            else:
                sources.append(Source(id_, None, model_info))
                tokens.append(stored)
        if unknown:
            raise ImageNotFound(f"There is no image {', '.join(unknown)}.")
        return sources, tokens

    def _nearest(
        self, text: str, question: Question, context: RequestContext
    ) -> tuple[list[Source], list[Tokens]]:
        query = question.search_text or text
        hits = self._search.by_text(query, question.limit, context, question.where).hits
        if not hits:
            raise NoImagesToAsk("No stored image fits the question; add images first.")
        sources = [Source(hit.id, hit.score, hit.model_info) for hit in hits]
        return sources, [self._library.decode(hit.record) for hit in hits]
