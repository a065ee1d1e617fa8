"""Answers in OpenAI's shapes: whole, and as the events of a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from fastapi.sse import format_sse_event

from service.errors import ModelFailed
from service.openai_schemas import PrecisMembers
from service.use_cases.ask import Answer

Body = dict[str, Any]


class ChatAnswer:
    """One answer of /v1/chat/completions."""

    def __init__(self, model: str, answer: Answer) -> None:
        self._head: Body = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._answer = answer

    def whole(self) -> Body:
        """The body, once all pieces have been read."""
        answer = self._answer
        message = {"role": "assistant", "content": answer.text.strip(), "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish_reason(answer),
        }
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage(),
            "precis": PrecisMembers.of(answer),
        }

    def events(self, pieces: Iterator[str], *, include_usage: bool) -> Iterator[bytes]:
        """The events of a stream, as the pieces come."""
        yield self._chunk({"role": "assistant", "content": ""})
        for piece in pieces:
            yield self._chunk({"content": piece})
        reason = _finish_reason(self._answer)
        yield self._chunk({}, reason, precis=PrecisMembers.of(self._answer))
        if include_usage:
            yield _data({**self._chunk_head(), "choices": [], "usage": self._usage()})
        yield format_sse_event(data_str="[DONE]")

    def _chunk(self, delta: Body, reason: str | None = None, **members: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _data({**self._chunk_head(), "choices": [choice], **members})

    def _chunk_head(self) -> Body:
        return {**self._head, "object": "chat.completion.chunk"}

    def _usage(self) -> Body:
        read, written = self._answer.prompt_tokens, self._answer.completion_tokens
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }


class ResponsesAnswer:
    """One answer of /v1/responses."""

    def __init__(
        self,
        model: str,
        answer: Answer,
        *,
        instructions: str | None,
        max_tokens: int,
        format: Body | None = None,
    ) -> None:
        self._answer = answer
        self._item_id = f"msg_{uuid.uuid4().hex}"
        self._head: Body = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "instructions": instructions,
            "max_output_tokens": max_tokens,
            "error": None,
            "metadata": {},
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": None,
            "text": {"format": format or {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": None,
        }

    def whole(self) -> Body:
        """The body, once all pieces have been read."""
        answer = self._answer
        is_cut = _finish_reason(answer) == "length"
        text = answer.text.strip()
        return {
            **self._head,
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self._item("incomplete" if is_cut else "completed", [text])],
            "usage": {
                "input_tokens": answer.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": answer.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": answer.prompt_tokens + answer.completion_tokens,
            },
            "precis": PrecisMembers.of(answer),
        }

    def events(self, pieces: Iterator[str]) -> Iterator[bytes]:
        """The events of a stream, as the pieces come, numbered."""
        for number, body in enumerate(self._bodies(pieces)):
            yield _data({**body, "sequence_number": number}, event=body["type"])

    def _bodies(self, pieces: Iterator[str]) -> Iterator[Body]:
        begun = {
            **self._head,
            "status": "in_progress",
            "incomplete_details": None,
            "output": [],
            "usage": None,
        }
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        item = {"output_index": 0, "item": self._item("in_progress", [])}
        yield {"type": "response.output_item.added", **item}
        place = {"item_id": self._item_id, "output_index": 0, "content_index": 0}
        yield {"type": "response.content_part.added", **place, "part": _part("")}
        for piece in pieces:
            delta = {"delta": piece, "logprobs": []}
            yield {"type": "response.output_text.delta", **place, **delta}
        whole = self.whole()
        (done,) = whole["output"]
        (part,) = done["content"]
        text = {"text": part["text"], "logprobs": []}
        yield {"type": "response.output_text.done", **place, **text}
        yield {"type": "response.content_part.done", **place, "part": part}
        yield {"type": "response.output_item.done", "output_index": 0, "item": done}
        yield {"type": f"response.{whole['status']}", "response": whole}

    def _item(self, status: str, texts: list[str]) -> Body:
        return {
            "type": "message",
            "id": self._item_id,
            "status": status,
            "role": "assistant",
            "content": [_part(text) for text in texts],
        }


def _part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _finish_reason(answer: Answer) -> str:
    if answer.finish_reason is None:
        raise ModelFailed("The answer has no finish reason.")
    return answer.finish_reason


def _data(body: Body, event: str | None = None) -> bytes:
    return format_sse_event(event=event, data_str=json.dumps(body, ensure_ascii=False))
