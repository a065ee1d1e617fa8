"""Routes under /v1 for clients of OpenAI's interface: models, embeddings, chat, responses."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse
from numpy.typing import NDArray

from service.dependencies import (
    READ,
    ContextOf,
    GuardedRoute,
    RuntimeOf,
    ServicesOf,
    check_scope,
    require_content_type,
)
from service.errors import InvalidInput, ModelNotFound
from service.openai_answers import ChatAnswer, ResponsesAnswer
from service.openai_schemas import (
    ChatInput,
    OpenAiEmbeddingsInput,
    OpenAiInput,
    ResponsesInput,
    constraint_of,
)
from service.problems import error_event
from service.routes.ask import STREAM_HEADERS
from service.runtime import Services
from service.use_cases.ask import Answer

router = APIRouter(prefix="/v1", tags=["openai"], route_class=GuardedRoute)

ALIAS = "precis"  # a name for whatever model runs
_JSON = [READ, require_content_type("application/json")]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "In OpenAI's shape; with `stream`, server-sent events.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}


@router.get("/models", dependencies=[READ])
def list_models(services: ServicesOf) -> dict[str, Any]:
    """The one model that runs."""
    return {"object": "list", "data": [_model_body(services)]}


@router.get("/models/{model:path}", dependencies=[READ])
def get_model(
    services: ServicesOf,
    model: Annotated[str, Path(description="Name of the model, or `precis`.")],
) -> dict[str, Any]:
    """The model, by its name or as `precis`."""
    _check_model(services, model)
    return _model_body(services)


@router.post("/embeddings", dependencies=_JSON)
def create_embeddings(
    request: Request,
    services: ServicesOf,
    context: ContextOf,
    body: OpenAiEmbeddingsInput,
) -> dict[str, Any]:
    """Embed texts as searches do. `usage` is 0: nobody counts the tokens of a search text."""
    _check_input(request, services, body)
    texts = [body.input] if isinstance(body.input, str) else body.input
    embeddings, _ = services.search.embed(texts, context)
    size = embeddings[0].size
    if body.dimensions not in (None, size):
        raise InvalidInput(
            f"Embeddings of this model have {size} dimensions.", param="dimensions"
        )
    is_base64 = body.encoding_format == "base64"
    data = []
    for index, embedding in enumerate(embeddings):
        encoded = _base64(embedding) if is_base64 else embedding.tolist()
        data.append({"object": "embedding", "index": index, "embedding": encoded})
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    model = _model_name(services)
    return {"object": "list", "data": data, "model": model, "usage": usage}


@router.post("/chat/completions", dependencies=_JSON, responses=_STREAM)
def create_chat_completion(
    request: Request,
    services: ServicesOf,
    runtime: RuntimeOf,
    context: ContextOf,
    body: ChatInput,
) -> Response:
    """Answer the last message of a conversation, about the images in it or else the nearest one.

    An image is `precis://ID` or a data URI. One in a data URI is stored, unless it is stored
    already; that needs a key that may write.
    """
    _check_input(request, services, body)
    messages = [message.message() for message in body.messages]
    limit = body.limit(runtime.settings.max_answer_tokens)
    may_store = partial(check_scope, request, "write")
    answer = services.chat(
        messages,
        limit,
        context,
        may_store,
        constraint_of(body.response_format, "response_format"),
        body.stop_sequences(),
    )
    shaped = ChatAnswer(_model_name(services), answer)
    options = body.stream_options
    include_usage = options is not None and options.include_usage
    events = partial(shaped.events, include_usage=include_usage)
    pieces = answer.pieces(context)
    return _response(request, pieces, shaped.whole, events if body.stream else None)


@router.post("/responses", dependencies=_JSON, responses=_STREAM)
def create_response(
    request: Request,
    services: ServicesOf,
    runtime: RuntimeOf,
    context: ContextOf,
    body: ResponsesInput,
) -> Response:
    """As /v1/chat/completions, in the shapes of the Responses API. Nothing of it is kept."""
    _check_input(request, services, body)
    most = runtime.settings.max_answer_tokens
    limit = min(body.max_output_tokens or most, most)
    may_store = partial(check_scope, request, "write")
    format = body.text.format if body.text else None
    answer: Answer = services.chat(
        body.messages(),
        limit,
        context,
        may_store,
        constraint_of(format, "text.format"),
    )
    shaped = ResponsesAnswer(
        _model_name(services),
        answer,
        instructions=body.instructions,
        max_tokens=limit,
        format=format,
    )
    pieces = answer.pieces(context)
    events = shaped.events if body.stream else None
    return _response(request, pieces, shaped.whole, events)


def _response(
    request: Request,
    pieces: Iterator[str],
    whole: Callable[[], dict[str, Any]],
    events: Callable[[Iterator[str]], Iterator[bytes]] | None,
) -> Response:
    """The whole answer, or a stream if there are `events`."""
    if events is None:
        for _ in pieces:
            pass
        return JSONResponse(whole())
    # An error before the first piece can still have an HTTP status of its own.
    first = next(pieces, None)
    all_pieces = chain([] if first is None else [first], pieces)
    stream = _ended(events(all_pieces), request)
    return EventSourceResponse(stream, headers=STREAM_HEADERS)


def _ended(events: Iterator[bytes], request: Request) -> Iterator[bytes]:
    try:
        yield from events
    except Exception as error:
        # The status has been sent, so any error at all must end the stream as an event.
        yield error_event(request, error)


def _check_input(request: Request, services: Services, body: OpenAiInput) -> None:
    """Raises ModelNotFound or InvalidInput."""
    _check_model(services, body.model)
    body.refuse_unsupported()
    body.members.blame_in(request)


def _check_model(services: Services, name: str) -> None:
    if name not in (ALIAS, _model_name(services)):
        raise ModelNotFound(f"There is no model {name}; this service runs `{ALIAS}`.")


def _model_name(services: Services) -> str:
    library = services.library
    model_info = library.model_info(library.fingerprint)
    return model_info.model if model_info else ALIAS


def _model_body(services: Services) -> dict[str, Any]:
    return {
        "id": _model_name(services),
        "object": "model",
        "created": 0,  # required, and known to nobody
        "owned_by": "precis",
    }


def _base64(embedding: NDArray[np.float32]) -> str:
    return base64.b64encode(embedding.astype("<f4").tobytes()).decode()
