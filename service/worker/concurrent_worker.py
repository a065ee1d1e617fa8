"""A worker for a model that runs elsewhere: every piece of work waits on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
            self._resolve(self._compress, *job)
        else:
            self._resolve(self._embed, *job)

    def _resolve(
        self,
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
