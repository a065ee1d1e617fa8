"""Answers in the making: the stream that a caller reads, and the lane that feeds many of them.

Knows nothing of HTTP or of where the summary tokens come from.
"""

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

Generate = Callable[[Sequence[GenerationRequest], Sequence[GenerationLimits]], Iterator[Piece]]


class AnswerStream:
    """The pieces of one answer, written by the worker and read by one caller."""

    def __init__(
        self, request: GenerationRequest, limits: GenerationLimits, on_over: Callable[[], None]
    ) -> None:
        self.request = request
        self.limits = limits
        self.over = False  # nothing more will come, or nothing more is wanted
        self._on_over = on_over
        self._lock = threading.Lock()
        self._events: SimpleQueue[Piece | Exception] = SimpleQueue()

    def put(self, event: Piece | Exception) -> None:
        """Hands the reader a piece, or the error that ends the answer; after its end nothing is taken."""
        with self._lock:
            if self.over:
                return
            self.over = isinstance(event, Exception) or event.finish_reason is not None
            self._events.put(event)
        if self.over:
            self._on_over()

    def cancel(self) -> None:
        """The reader wants no more; the model stops at its next piece."""
        self.put(RequestCancelled("The caller has hung up."))

    def read(self, caller: RequestContext) -> Iterator[Piece]:
        """Pieces as they come; the last one has a finish reason.

        Raises what the model raised, DeadlineExceeded or RequestCancelled. Closing the iterator
        cancels the answer.
        """
        try:
            finished = False
            while not finished:
                event = self._events.get(timeout=caller.remaining_s())
                if isinstance(event, Exception):
                    raise event
                finished = event.finish_reason is not None
                yield event
        except Empty as error:
            raise caller.late() from error
        finally:
            self.cancel()


@dataclass
class _Group:
    """Answers that one call of the generator makes together."""

    streams: list[AnswerStream]
    pieces: Iterator[Piece] | None = None  # opened by the first step
    any_given: bool = False


class AnswerLane(WorkQueue[AnswerStream]):
    """Groups of answers, a piece at a time in turn, so that a long answer holds up neither images
    nor other answers.
    """

    def __init__(self, generate: Generate, *, queue_size: int, batch_size: int) -> None:
        super().__init__("answers", queue_size=queue_size, batch_size=batch_size)
        self._generate = generate
        self._groups: deque[_Group] = deque()

    def has_work(self) -> bool:
        """Whether an answer waits or is in the making."""
        return bool(self._waiting or self._groups)

    def turn(self) -> None:
        """The next piece of the group whose turn it is; those who wait form a new group."""
        room = self.batch_size - sum(len(group.streams) for group in self._groups)
        newcomers: list[AnswerStream] = []
        while self._waiting and len(newcomers) < room:
            stream = self._waiting.popleft()
            if not stream.over:
                newcomers.append(stream)
        if newcomers:
            self._groups.appendleft(_Group(newcomers))
        if self._groups:
            group = self._groups.popleft()
            if self._step(group):
                self._groups.append(group)

    def fail(self, error: Exception) -> None:
        """Gives everyone who waits the error."""
        streams = [*self._waiting, *(stream for group in self._groups for stream in group.streams)]
        for group in self._groups:
            _close(group)
        self._waiting.clear()
        self._groups.clear()
        for stream in streams:
            stream.put(error)

    def _step(self, group: _Group) -> bool:
        """One piece; False once the group is done with."""
        unfinished = [stream for stream in group.streams if not stream.over]
        if not unfinished:
            self.done += len(group.streams)
            _close(group)
            return False
        try:
            if group.pieces is None:
                group.streams = unfinished
                group.pieces = self._generate(
                    [stream.request for stream in unfinished],
                    [stream.limits for stream in unfinished],
                )
            piece = next(group.pieces)
        except StopIteration:
            self._give_up(unfinished, ModelFailed("The model ended an answer without saying why."))
        except Exception as error:
            if len(group.streams) > 1 and not group.any_given:
                # One question that the model cannot take must not cost the others their answers.
                self._groups.extend(_Group([stream]) for stream in unfinished)
            else:
                self._give_up(unfinished, error)
        else:
            group.any_given = True
            group.streams[piece.request].put(piece)
            return True
        return False

    def _give_up(self, streams: Sequence[AnswerStream], error: Exception) -> None:
        for stream in streams:
            stream.put(error)
        self.done += len(streams)


def _close(group: _Group) -> None:
    if isinstance(group.pieces, Generator):
        group.pieces.close()
