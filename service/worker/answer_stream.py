"""Answers as they are generated: the stream that a request reads, and the queue that fills it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from compressor.ports import GenerationLimits, GenerationRequest, Piece
from service.errors import ModelFailed, RequestCancelled
from service.worker.queues import WorkQueue
from service.worker.request_context import RequestContext

Generate = Callable[
    [Sequence[GenerationRequest], Sequence[GenerationLimits]], Iterator[Piece]
]
# What a reader is told where the pieces end before one that says why.
NO_FINISH_REASON = "The model ended an answer without a reason."


class AnswerStream:
    """The pieces of one answer, written by the worker and read by one request."""

    def __init__(
        self,
        request: GenerationRequest,
        limits: GenerationLimits,
        on_end: Callable[[], None],
    ) -> None:
        self.request = request
        self.limits = limits
        self.ended = False  # the answer is complete, or no longer wanted
        self._on_end = on_end
        self._lock = threading.Lock()
        self._events: SimpleQueue[Piece | Exception] = SimpleQueue()

    def put(self, event: Piece | Exception) -> None:
        """Hands the reader a piece, or the error that ends the answer; ignored after the end."""
        with self._lock:
            if self.ended:
                return
            self.ended = isinstance(event, Exception) or event.finish_reason is not None
            self._events.put(event)
        if self.ended:
            self._on_end()

    def cancel(self) -> None:
        """Ends the answer; the model stops at its next piece."""
        self.put(RequestCancelled())

    def read(self, context: RequestContext) -> Generator[Piece]:
        """Pieces as they come; the last one has a finish reason.

        Raises what the model raised, DeadlineExceeded or RequestCancelled. Closing the iterator
        cancels the answer.
        """
        try:
            finished = False
            while not finished:
                event = self._events.get(timeout=context.remaining_s())
                if isinstance(event, Exception):
                    raise event
                finished = event.finish_reason is not None
                yield event
        except Empty as error:
            raise context.deadline_exceeded() from error
        finally:
            self.cancel()


@dataclass
class _Group:
    """Answers that one call of the generator produces together."""

    streams: list[AnswerStream]
    pieces: Iterator[Piece] | None = None  # opened by the group's first step
    has_output: bool = False


class AnswerQueue(WorkQueue[AnswerStream]):
    """Groups of answers that take turns, a piece at a time.

    So a long answer delays neither images nor other answers.
    """

    def __init__(self, generate: Generate, *, queue_size: int, batch_size: int) -> None:
        super().__init__("answers", queue_size=queue_size, batch_size=batch_size)
        self._generate = generate
        self._groups: deque[_Group] = deque()

    def has_work(self) -> bool:
        """Whether an answer waits or is being generated."""
        return bool(self._waiting or self._groups)

    def step(self) -> None:
        """The next piece of the first group; the waiting answers join as a new group before it."""
        newcomers = self._newcomers()
        if newcomers:
            self._groups.appendleft(_Group(newcomers))
        if self._groups:
            group = self._groups.popleft()
            if self._advance(group):
                self._groups.append(group)

    def _newcomers(self) -> list[AnswerStream]:
        room = self.batch_size - sum(len(group.streams) for group in self._groups)
        newcomers: list[AnswerStream] = []
        while self._waiting and len(newcomers) < room:
            stream = self._waiting.popleft()
            if not stream.ended:
                newcomers.append(stream)
        return newcomers

    def fail(self, error: Exception) -> None:
        """Hands the error to everyone who waits."""
        streams = list(self._waiting)
        for group in self._groups:
            streams += group.streams
            _close(group)
        self._waiting.clear()
        self._groups.clear()
        for stream in streams:
            stream.put(error)

    def _advance(self, group: _Group) -> bool:
        """Generates one piece; False once the group is finished."""
        unfinished = [stream for stream in group.streams if not stream.ended]
        if not unfinished:
            self.done += len(group.streams)
            _close(group)
            return False
        try:
            if group.pieces is None:
                group.streams = unfinished
                group.pieces = self._open(unfinished)
            piece = next(group.pieces)
        except StopIteration:
            error = ModelFailed(NO_FINISH_REASON)
            self._give_up(group, error)
            return False
        except Exception as error:
            if len(group.streams) > 1 and not group.has_output:
                # One question that the model rejects must not cost the others their answers.
                self._groups.extend(_Group([stream]) for stream in unfinished)
            else:
                self._give_up(group, error)
            return False
        if piece.completion_tokens or piece.finish_reason:
            group.has_output = True
        group.streams[piece.request].put(piece)
        return True

    def _open(self, streams: Sequence[AnswerStream]) -> Iterator[Piece]:
        requests = [stream.request for stream in streams]
        limits = [stream.limits for stream in streams]
        return self._generate(requests, limits)

    def _give_up(self, group: _Group, error: Exception) -> None:
        for stream in group.streams:
            stream.put(error)
        self.done += len(group.streams)


def _close(group: _Group) -> None:
    if isinstance(group.pieces, Generator):
        group.pieces.close()
