"""Reads server-sent events (text/event-stream) from lines.

Knows nothing of what the events mean.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One event: its name and its data, lines joined by newlines."""

    name: str
    data: str


class EventReader:
    """Takes lines one by one and gives an event whenever a blank line completes it.

    Follows "Interpreting an event stream" of the HTML standard; `id` and `retry` are of no use here
    and ignored, and an event that the end of the stream cuts short is dropped.
    """

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """Takes a line without its line end; the event that it completes, if any."""
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
