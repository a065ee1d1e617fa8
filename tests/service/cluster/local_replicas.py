"""Replicas in this process, over the port that Ray's are called through."""

from __future__ import annotations

import atexit
import pickle
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack
from functools import cache
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from service.cluster.model_replicas import (
    FirstPassReplica,
    SecondPassReplica,
    TextEmbeddingReplica,
)
from service.models import ModelFactory
from service.settings import Settings

# Batched methods take all their items at once, as `serve.batch` gives them.
BATCHED = {"compress": "compress_batch", "embed_text": "embed_batch"}


class LocalReplicas:
    """One replica, whose coroutines run in the event loop of `portal`.

    What goes to it and what comes back is pickled, as it is on a cluster.
    """

    def __init__(self, replica: Any, portal: BlockingPortal) -> None:
        self._replica = replica
        self._portal = portal

    def call_each(self, method: str, items: Sequence[Any]) -> list[Any]:
        """See Replicas."""
        items = _carried(list(items))
        if method in BATCHED:
            call = getattr(self._replica, BATCHED[method])
            results = _carried(self._portal.call(call, items))
        else:
            call = getattr(self._replica, method)
            results = [_carried(self._portal.call(call, item)) for item in items]
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def call(self, method: str) -> Any:
        """See Replicas."""
        return _carried(self._portal.call(getattr(self._replica, method)))

    def stream(self, method: str, *arguments: Any) -> Generator[Any, None, None]:
        """See Replicas."""
        items: AsyncGenerator[Any] = getattr(self._replica, method)(
            *_carried(arguments)
        )
        try:
            while True:
                try:
                    item = self._portal.call(anext, items)
                except StopAsyncIteration:
                    return
                yield _carried(item)
        finally:
            self._portal.call(items.aclose)


def local_deployments(
    settings: Settings, make_models: ModelFactory
) -> tuple[LocalReplicas, LocalReplicas, LocalReplicas]:
    """First pass, text embedding and second pass."""
    first_pass = FirstPassReplica(settings, make_models, _any_model)
    text_embedding = TextEmbeddingReplica(settings, make_models, _any_model)
    second_pass = SecondPassReplica(settings, make_models, _any_model)
    return (
        LocalReplicas(first_pass, event_loop()),
        LocalReplicas(text_embedding, event_loop()),
        LocalReplicas(second_pass, event_loop()),
    )


@cache
def event_loop() -> BlockingPortal:
    """One event loop in a thread, for all tests."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(start_blocking_portal())


def _any_model(_: str) -> None:
    pass


def _carried(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))
