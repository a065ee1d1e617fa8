"""Limits with two ends, of which the service holds one and its clients the other: they meet."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature

import pytest

from precis_client.calls import TIMEOUT_S
from precis_client.retries import RetryPolicy
from service.errors import DeadlineExceeded, NotReady, ServiceError, ShuttingDown
from service.problems import FOREIGN, STORE_RETRY_AFTER_S, problem_of
from service.settings import Settings
from service.worker.queues import LONGEST_RETRY_AFTER_S


def test_the_client_waits_as_long_as_the_service_asks_it_to() -> None:
    pauses_s = (
        LONGEST_RETRY_AFTER_S,
        NotReady.retry_after_s,
        ShuttingDown.retry_after_s,
        DeadlineExceeded.retry_after_s,
        STORE_RETRY_AFTER_S,
    )
    longest_s = RetryPolicy().longest_wait_s
    assert all(pause_s is not None and pause_s <= longest_s for pause_s in pauses_s)


def kinds_of(base: type[Exception]) -> Iterator[type[Exception]]:
    """All classes of errors below a base."""
    for kind in base.__subclasses__():
        yield kind
        yield from kinds_of(kind)


RETRIED = [
    kind
    for kind in (*kinds_of(ServiceError), *FOREIGN)
    if FOREIGN.get(kind, (getattr(kind, "status", 0),))[0] in RetryPolicy().statuses
]


@pytest.mark.parametrize("kind", RETRIED)
def test_an_error_that_the_client_retries_names_a_pause(kind: type[Exception]) -> None:
    has_own = "retry_after_s" in signature(kind.__init__).parameters
    error = kind("a", **({"retry_after_s": 7} if has_own else {}))
    assert int(problem_of(error).headers["Retry-After"]) > 0


def test_the_client_waits_for_the_services_own_deadline() -> None:
    assert Settings().deadline_s < TIMEOUT_S
