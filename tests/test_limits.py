"""Limits with two ends, of which the service holds one and its clients the other: they meet."""

from __future__ import annotations

from precis_client.calls import TIMEOUT_S
from precis_client.retries import RetryPolicy
from service.errors import NotReady, ShuttingDown
from service.settings import Settings
from service.worker.queues import LONGEST_RETRY_AFTER_S


def test_the_client_waits_as_long_as_the_service_asks_it_to() -> None:
    pauses_s = (
        LONGEST_RETRY_AFTER_S,
        NotReady.retry_after_s,
        ShuttingDown.retry_after_s,
    )
    longest_s = RetryPolicy().longest_wait_s
    assert all(pause_s is not None and pause_s <= longest_s for pause_s in pauses_s)


def test_the_client_waits_for_the_services_own_deadline() -> None:
    assert Settings().deadline_s < TIMEOUT_S
