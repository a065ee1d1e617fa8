"""The route of questions, answered at once or as a stream of server-sent events.

Knows nothing of how answers are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from fastapi import APIRouter, Request
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel

from service.dependencies import CallerOf, GuardedRoute, ServicesOf, takes
from service.errors import ModelFailed
from service.problems import event_body
from service.schemas import AnswerBody, AskInput, PieceBody, SourceBody, UsageBody
from service.use_cases.ask import Answer, Question
from service.use_cases.metadata import filter_of

router = APIRouter(prefix="/ask", tags=["ask"], route_class=GuardedRoute)

_STREAM = {
    "description": "With `stream`: events `piece` (a piece of the text), then one `done` (the whole answer) "
    "or one `error` (a problem).",
    "content": {"text/event-stream": {}},
}
# Proxies must pass pieces on as they come.
_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@router.post(
    "",
    response_model=AnswerBody,
    dependencies=[takes("application/json")],
    responses={200: _STREAM},
)
def ask(
    request: Request, services: ServicesOf, caller: CallerOf, body: AskInput
) -> AnswerBody | EventSourceResponse:
    """Answer a question from what is stored of images, without their pixels."""
    question = Question(
        body.question, body.image_ids, body.limit, body.max_tokens, filter_of(body.where, body.tags)
    )
    answer = services.ask(question, caller)
    pieces = answer.pieces(caller)
    if not body.stream:
        for _ in pieces:
            pass
        return _answer_body(answer)
    # Until the first piece an error still has a status of its own.
    first = next(pieces, None)
    begun = chain([] if first is None else [first], pieces)
    return EventSourceResponse(
        _events(request.state.request_id, answer, begun), headers=_STREAM_HEADERS
    )


def _events(request_id: str, answer: Answer, pieces: Iterator[str]) -> Iterator[bytes]:
    try:
        for piece in pieces:
            yield _event("piece", PieceBody(text=piece))
        yield _event("done", _answer_body(answer))
    except (
        Exception
    ) as error:  # the status is sent already: whatever it is, it must end the stream as an event
        yield format_sse_event(event="error", data_str=event_body(error, request_id))


def _event(name: str, body: BaseModel) -> bytes:
    return format_sse_event(event=name, data_str=body.model_dump_json())


def _answer_body(answer: Answer) -> AnswerBody:
    if answer.finish_reason is None:
        raise ModelFailed("The answer has no end.")
    return AnswerBody(
        answer=answer.text.strip(),
        images=[SourceBody.of_source(image) for image in answer.images],
        finish_reason=answer.finish_reason,
        usage=UsageBody(
            prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens
        ),
        timings_ms=answer.timings_ms,
    )
