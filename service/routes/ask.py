"""The routes of questions, answered whole or as a stream of server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel

from compressor.ports import Turn
from service.dependencies import (
    READ,
    ContextOf,
    GuardedRoute,
    ServicesOf,
    require_content_type,
)
from service.errors import ModelFailed
from service.problems import error_event
from service.schemas.ask import (
    AnswerBody,
    AskInput,
    CitationBody,
    LibraryAnswerBody,
    LibraryInput,
    PieceBody,
    QuestionInput,
    SourceBody,
    UsageBody,
)
from service.use_cases.ask import Answer, Question
from service.use_cases.ask_library import LibraryAnswer
from service.use_cases.metadata import filter_of

Body = TypeVar("Body", bound=BaseModel)

router = APIRouter(prefix="/ask", tags=["ask"], route_class=GuardedRoute)

_STREAM = {
    "description": "With `stream`: events `piece` (a piece of the text), then one `done` (the "
    "whole answer) or one `error` (a problem).",
    "content": {"text/event-stream": {}},
}
# A proxy must forward each piece as it comes.
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@router.post(
    "",
    response_model=AnswerBody,
    dependencies=[READ, require_content_type("application/json")],
    responses={200: _STREAM},
)
def ask(
    request: Request, services: ServicesOf, context: ContextOf, body: AskInput
) -> AnswerBody | EventSourceResponse:
    """Answer a question from what is stored of images, without their pixels."""
    question = _question(body, body.image_ids, body.limit)
    answer = services.ask(question, context)
    pieces = answer.pieces(context)
    return _response(request, pieces, body.stream, lambda: _answer_body(answer))


@router.post(
    "/library",
    response_model=LibraryAnswerBody,
    dependencies=[READ, require_content_type("application/json")],
    responses={200: _STREAM},
)
def ask_library(
    request: Request, services: ServicesOf, context: ContextOf, body: LibraryInput
) -> LibraryAnswerBody | EventSourceResponse:
    """Search with a question, answer it from all hits together, and cite those that support it."""
    question = _question(body, None, limit=1)
    answer = services.ask_library(question, body.limit, context)
    pieces = answer.pieces(context)
    return _response(request, pieces, body.stream, lambda: _library_body(answer))


def _question(
    body: QuestionInput, image_ids: Sequence[str] | None, limit: int
) -> Question:
    return Question(
        body.question,
        image_ids,
        limit,
        body.max_tokens,
        filter_of(body.where, body.tags),
        [Turn(turn.role, turn.text) for turn in body.history],
        body.format.constraint() if body.format else None,
    )


def _response(
    request: Request, pieces: Iterator[str], stream: bool, whole: Callable[[], Body]
) -> Body | EventSourceResponse:
    """The whole answer once all pieces are read, or a stream."""
    if not stream:
        for _ in pieces:
            pass
        return whole()
    # An error before the first piece can still have an HTTP status of its own.
    first = next(pieces, None)
    all_pieces = chain([] if first is None else [first], pieces)
    events = _events(request, all_pieces, whole)
    return EventSourceResponse(events, headers=STREAM_HEADERS)


def _events(
    request: Request, pieces: Iterator[str], whole: Callable[[], BaseModel]
) -> Iterator[bytes]:
    try:
        for piece in pieces:
            yield _event("piece", PieceBody(text=piece))
        yield _event("done", whole())
    except Exception as error:
        # The status has been sent, so any error at all must end the stream as an event.
        yield error_event(request, error)


def _event(name: str, body: BaseModel) -> bytes:
    return format_sse_event(event=name, data_str=body.model_dump_json())


def _answer_body(answer: Answer) -> AnswerBody:
    sources = [SourceBody.of_source(image) for image in answer.images]
    return AnswerBody(images=sources, **_answer_fields(answer))


def _library_body(answer: LibraryAnswer) -> LibraryAnswerBody:
    joint = answer.joint
    citations = [
        CitationBody.of_citation(citation, joint.text) for citation in answer.citations
    ]
    return LibraryAnswerBody(
        query=answer.query or "", images=citations, **_answer_fields(joint)
    )


def _answer_fields(answer: Answer) -> dict[str, Any]:
    if answer.finish_reason is None:
        raise ModelFailed("The answer has no finish reason.")
    return {
        "answer": answer.text.strip(),
        "source": answer.made_from,
        "confidence": answer.confidence,
        "unsure": answer.unsure,
        "finish_reason": answer.finish_reason,
        "usage": UsageBody(
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
        ),
        "timings_ms": answer.timings_ms,
    }
