"""Server-sent events, and the answer that a stream of them makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import TypeAdapter

from precis_client.calls import parsed
from precis_client.errors import ConnectionFailed, problem
from precis_client.results import Answer, Piece


@dataclass(frozen=True)
class Event:
    """One event: its name and its data, lines joined by newlines."""

    name: str
    data: str


class EventReader:
    """Takes lines one by one and returns an event when a blank line completes it.

    Follows "Interpreting an event stream" of the HTML standard. It ignores `id` and `retry`, and
    drops an event that the end of the stream cuts short.
    """

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """The event that a line, without its line end, completes; None if it completes none."""
        if line == "":
            name, data = self._name, self._data
            self._name, self._data = "", []
            return Event(name or "message", "\n".join(data)) if data else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        return None


class AnswerReader:
    """Assembles an answer from the lines of its event stream."""

    def __init__(self) -> None:
        self.answer: Answer | None = None  # once it is complete
        self._events = EventReader()

    def feed(self, line: str) -> str:
        """The text that this line adds, if any. Raises ServiceProblem or ResponseInvalid."""
        event = self._events.feed(line)
        if event is None:
            return ""
        body = event.data.encode()
        if event.name == "piece":
            return parsed(_PIECE, body).text
        if event.name == "done":
            self.answer = parsed(_ANSWER, body)
        elif event.name == "error":
            members = parsed(_MEMBERS, body)
            raise problem(
                members.get("status", httpx.codes.INTERNAL_SERVER_ERROR), members
            )
        return ""

    def finish(self) -> None:
        """To be called at the stream's end. Raises ConnectionFailed for an incomplete answer."""
        if self.answer is None:
            raise ConnectionFailed("The connection ended before the answer did.")


_ANSWER = TypeAdapter(Answer)
_PIECE = TypeAdapter(Piece)
_MEMBERS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
