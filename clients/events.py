"""Reads server-sent events (text/event-stream) from lines."""

from __future__ import annotations

from dataclasses import dataclass


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
