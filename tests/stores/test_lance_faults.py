"""An object store that fails in the middle: nothing acknowledged is lost, nothing is stored twice.

A real S3 server, behind a proxy that refuses, loses answers, is slow, and speaks of credentials.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from index.errors import (
    StoreAccessDenied,
    StoreUnreachable,
    WrongFingerprint,
)
from tests.fakes.model import Gate
from tests.index.libraries import (
    assert_found,
    assert_kept,
    counts,
    opened,
    page_ids,
)
from tests.index.samples import (
    OTHER_FINGERPRINT,
    make_id,
    make_ids,
    make_image,
    make_images,
)
from tests.stores.faulty_s3 import (
    Fault,
    FaultyS3,
    Request,
    answer_lost,
    answering,
    healthy,
    held,
    of_commits,
    refused,
    since,
)
from tests.stores.opening import reason

pytestmark = pytest.mark.stores
pytest.importorskip("lance")

SLOW_DOWN = answering(503, "SlowDown", "Please reduce your request rate.")
FAULTS = pytest.mark.parametrize(
    "fault", [refused, answer_lost, SLOW_DOWN], ids=["refused", "lost", "slow-down"]
)

Moment = Callable[[Request], bool]
MOMENTS = pytest.mark.parametrize(
    "moment",
    [lambda _: True, lambda each: each.writes_data, lambda each: each.commits],
    ids=["reading", "writing", "committing"],
)


@pytest.fixture(autouse=True)
def _few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that stays away is told after one more try."""
    options = {"client_max_retries": "1", "client_retry_timeout": "5"}
    monkeypatch.setattr(
        "index.store.lance.dataset._REMOTE_OPTIONS", {"timeout": "60s", **options}
    )


def assert_each_once(url: str, folder: Path, numbers: Iterable[int]) -> None:
    """A process that has seen none of it finds these images, each once, and no other."""
    expected = list(numbers)
    with opened(folder, store=url) as library:
        assert sorted(page_ids(library, limit=100)) == sorted(make_ids(expected))
        assert counts(library) == {len(expected)}
        assert_found(library, expected)
        assert_kept(library, expected[-1])


@FAULTS
@MOMENTS
def test_a_put_that_is_interrupted(
    moment: Moment, fault: Fault, proxy: FaultyS3, proxied_url: str, tmp_path: Path
) -> None:
    with opened(tmp_path / "a", store=proxied_url) as library:
        library.put([make_image(0)])
        with proxy.failing(since(moment, fault)):
            with pytest.raises(StoreUnreachable) as caught:
                library.put([make_image(1)])
            assert str(caught.value) == "Lance: the object store does not answer"
        assert_found(library, [0])
        # What a caller does who was not answered.
        library.put(make_images([1, 2]))
    assert_each_once(proxied_url, tmp_path / "b", range(3))


@FAULTS
@MOMENTS
def test_a_dataset_whose_making_is_interrupted(
    moment: Moment, fault: Fault, proxy: FaultyS3, proxied_url: str, tmp_path: Path
) -> None:
    with proxy.failing(since(moment, fault)):
        assert "does not answer" in reason(proxied_url, tmp_path / "a")
    with opened(tmp_path / "a", store=proxied_url) as library:
        library.put([make_image(0)])
    assert_each_once(proxied_url, tmp_path / "b", [0])


def test_one_request_that_fails_is_sent_again(
    proxy: FaultyS3, proxied_url: str, tmp_path: Path
) -> None:
    def once(fault: Fault) -> Fault:
        faults = iter([fault])
        return lambda request, forward: next(faults, healthy)(request, forward)

    with opened(tmp_path / "a", store=proxied_url) as library:
        for number, fault in enumerate((refused, answer_lost, SLOW_DOWN)):
            with proxy.failing(once(fault)):
                library.put([make_image(2 * number)])
            with proxy.failing(once(of_commits(fault))):
                library.put([make_image(2 * number + 1)])
    assert_each_once(proxied_url, tmp_path / "b", range(6))


def test_a_slow_store_keeps_the_writer_waiting(
    proxy: FaultyS3, proxied_url: str, tmp_path: Path
) -> None:
    gate = Gate()
    with (
        opened(tmp_path / "a", store=proxied_url) as library,
        opened(tmp_path / "b", store=proxied_url) as reader,
        proxy.failing(of_commits(held(gate, threading.Event()))),
    ):
        writer = threading.Thread(target=library.put, args=(make_images([0]),))
        writer.start()
        gate.wait_for_arrival()
        # Others are served meanwhile, and see nothing of it.
        assert counts(reader) == {0}
        gate.opened.set()
        writer.join()
        assert_found(reader, [0])
    assert_each_once(proxied_url, tmp_path / "c", [0])


def test_a_commit_that_arrives_after_its_writer_has_given_up(
    proxy: FaultyS3,
    proxied_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, forwarded = Gate(), threading.Event()
    options = {"timeout": "10s", "client_max_retries": "0"}
    monkeypatch.setattr("index.store.lance.dataset._REMOTE_OPTIONS", options)
    with opened(tmp_path / "a", store=proxied_url) as library:
        library.put([make_image(0)])
        with proxy.failing(of_commits(held(gate, forwarded))):
            with pytest.raises(StoreUnreachable, match="does not answer"):
                library.put([make_image(1)])
            gate.opened.set()
            assert forwarded.wait(30)
        library.put(make_images([1, 2]))
        assert_found(library, range(3))
    assert_each_once(proxied_url, tmp_path / "b", range(3))


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (
            403,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist.",
        ),
        (403, "SignatureDoesNotMatch", "The request signature does not match."),
        (403, "AccessDenied", "Access Denied"),
        (400, "ExpiredToken", "The provided token has expired."),
        # A clock that has jumped.
        (
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        ),
    ],
)
def test_a_store_that_no_longer_lets_the_service_in(
    status: int,
    code: str,
    message: str,
    proxy: FaultyS3,
    proxied_url: str,
    tmp_path: Path,
) -> None:
    with opened(tmp_path / "a", store=proxied_url) as library:
        library.put([make_image(0)])
        with proxy.failing(answering(status, code, message)):
            assert reason(proxied_url, tmp_path / "b") == f"Lance: {message}"
            for call in (
                lambda: library.put([make_image(1)]),
                lambda: library.delete([make_id(0)]),
                lambda: library.get([make_id(0)]),
            ):
                with pytest.raises(StoreAccessDenied) as caught:
                    call()
                assert str(caught.value) == f"Lance: {message}"
        library.put([make_image(2)])
    assert_each_once(proxied_url, tmp_path / "c", [0, 2])


def test_models_of_two_kinds_keep_their_images_apart(
    s3_url: str, tmp_path: Path
) -> None:
    other = {"fingerprint": OTHER_FINGERPRINT}
    with (
        opened(tmp_path / "a", store=s3_url) as library,
        opened(tmp_path / "b", store=s3_url, **other) as stranger,
    ):
        library.put(make_images([0, 1]))
        with pytest.raises(WrongFingerprint):
            stranger.put([make_image(2)])
        with pytest.raises(WrongFingerprint):
            stranger.tokens([make_id(0)])
        stranger.put([make_image(3, **other)])
        with pytest.raises(WrongFingerprint):
            library.tokens([make_id(3)])
        assert_found(library, [0, 1])
        assert_found(stranger, [3])


def test_writers_whose_clocks_are_days_apart(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one that is days ahead, all versions but the last are old enough to be removed."""
    upkeep = "index.store.lance.upkeep"
    monkeypatch.setattr(f"{upkeep}._CLEANUP_PERIOD_S", 0.0)
    days_ns = 3 * 24 * 3600 * 10**9
    ahead_of_us = SimpleNamespace(time_ns=lambda: time.time_ns() + days_ns)
    with (
        opened(tmp_path / "a", store=s3_url) as ahead,
        opened(tmp_path / "b", store=s3_url) as library,
    ):
        for number in range(0, 24, 2):
            library.put([make_image(number)])
            with monkeypatch.context() as jump:
                jump.setattr(f"{upkeep}._KEPT_VERSIONS", timedelta(0))
                jump.setattr("index.library.time", ahead_of_us)
                ahead.put([make_image(number + 1)])
            # What it saw last was a version that may be gone.
            assert_found(library, [number, number + 1])
        # In the order of their rows, whatever the clocks say.
        assert page_ids(library, limit=100) == make_ids(range(24))
    assert_each_once(s3_url, tmp_path / "c", range(24))
