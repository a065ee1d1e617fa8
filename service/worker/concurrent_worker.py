"""A worker for a model that runs elsewhere: every piece of work waits on a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from service.errors import ModelFailed, ShuttingDown
from service.worker.answer_stream import NO_FINISH_REASON, AnswerStream
from service.worker.queues import Job, WorkQueue
from service.worker.worker import SHUTTING_DOWN, Load, ModelWorker


class ConcurrentWorker(ModelWorker):
    """A worker that forms no batches and keeps no order: whoever runs the model does.

    Both passes must be thread-safe. The slots bound what is in progress, as they always do.
    """

    def __init__(
        self,
        load: Load,
        *,
        queue_size: int,
        batch_size: int,
        observe_batch: Callable[[str, int], None],
        on_failure: Callable[[], None],
    ) -> None:
        super().__init__(
            load,
            queue_size=queue_size,
            batch_size=batch_size,
            observe_batch=observe_batch,
            on_failure=on_failure,
        )
        self._threads = ThreadPoolExecutor(queue_size * len(self.queues), "remote")
        self._observe_batch = observe_batch
        # Of each kind of work: the calls under way, and until when its `busy_s` is counted.
        self._calls = {queue.kind: 0 for queue in self.queues}
        self._counted_until_s = {queue.kind: 0.0 for queue in self.queues}

    def close(self) -> None:
        """Waits for the calls in progress; everyone else gets ShuttingDown."""
        super().close()
        self._threads.shutdown()

    def _add(self, queue: WorkQueue[Job], jobs: Sequence[Job]) -> None:
        with self._changed:
            self.check_ready()
            for job in jobs:
                self._threads.submit(self._run_job, queue, job)

    def _run_job(self, queue: WorkQueue[Any], job: Any) -> None:
        if queue is self.answers:
            self._write(job)
        elif queue is self.images:
            self._resolve(queue, self._compress, *job)
        else:
            self._resolve(queue, self._embed, *job)

    @contextmanager
    def _under_way(self, queue: WorkQueue[Any]) -> Iterator[None]:
        """Counts a call, and as the queue's time that in which at least one is under way."""
        with self._changed:
            self._count_time(queue)
            self._calls[queue.kind] += 1
        try:
            yield
        finally:
            with self._changed:
                self._count_time(queue)
                self._calls[queue.kind] -= 1
                queue.done += 1

    def _count_time(self, queue: WorkQueue[Any]) -> None:
        now_s = time.perf_counter()
        if self._calls[queue.kind]:
            queue.busy_s += now_s - self._counted_until_s[queue.kind]
        self._counted_until_s[queue.kind] = now_s

    def _resolve(
        self,
        queue: WorkQueue[Any],
        run: Callable[[Sequence[Any]], Sequence[Any]],
        item: Any,
        future: Future[Any],
    ) -> None:
        # The future stays cancellable while the call is on its way: a caller whose deadline passes
        # need not wait for a process that may have died.
        if future.cancelled():
            return
        result: Any
        try:
            if self._closing:
                raise ShuttingDown(SHUTTING_DOWN)  # noqa: TRY301
            self._observe_batch(queue.kind, 1)
            with self._under_way(queue):
                (result,) = run([item])
        except Exception as error:
            result = error
        if not future.set_running_or_notify_cancel():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    def _write(self, stream: AnswerStream) -> None:
        if stream.ended:
            return
        with self._under_way(self.answers):
            self._generate(stream)

    def _generate(self, stream: AnswerStream) -> None:
        pieces = self._generator.generate([stream.request], [stream.limits])
        try:
            for piece in pieces:
                if self._closing:
                    stream.put(ShuttingDown(SHUTTING_DOWN))
                else:
                    stream.put(piece)
                if stream.ended:
                    return
            stream.put(ModelFailed(NO_FINISH_REASON))
        except Exception as error:
            stream.put(error)
        finally:
            if isinstance(pieces, Generator):
                pieces.close()
