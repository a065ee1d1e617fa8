"""Answers by key: the first one again, never another's, and not for ever."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from index.errors import StoreError
from service.errors import KeyInUse, KeyReused
from service.idempotency import FILE_NAME, KEPT_S, IdempotencyStore, StoredAnswer

ANSWER = StoredAnswer(201, b'{"a": 1}')


class Clock:
    """A fake clock."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> IdempotencyStore:
    return IdempotencyStore(tmp_path, clock)


def answer(store: IdempotencyStore, key: str = "k", request: bytes = b"r") -> None:
    with store.claim(key, request) as claim:
        assert claim.answer is None
        claim.keep(ANSWER)


def test_the_first_answer_comes_again(store: IdempotencyStore) -> None:
    answer(store)
    with store.claim("k", b"r") as claim:
        assert claim.answer == ANSWER
    answer(store, "another key")


def test_it_is_kept_on_the_disk(
    store: IdempotencyStore, tmp_path: Path, clock: Clock
) -> None:
    answer(store)
    other = IdempotencyStore(
        tmp_path, clock
    )  # as after a crash: the first was never closed
    with other.claim("k", b"r") as claim:
        assert claim.answer == ANSWER
    other.close()
    store.close()


def test_another_request_is_refused(store: IdempotencyStore) -> None:
    answer(store)
    with pytest.raises(KeyReused), store.claim("k", b"other"):
        pass
    with store.claim("k", b"r") as claim:
        assert claim.answer == ANSWER


def test_a_key_in_work_is_refused_and_free_again_afterwards(
    store: IdempotencyStore,
) -> None:
    with store.claim("k", b"r"):
        with pytest.raises(KeyInUse), store.claim("k", b"r"):
            pass
        answer(store, "another key")
    with pytest.raises(ZeroDivisionError), store.claim("k", b"r"):
        raise ZeroDivisionError
    answer(store)


def test_of_many_at_once_one_works(store: IdempotencyStore) -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with store.claim("k", b"r") as claim:
            inside.set()
            assert leave.wait(30)
            claim.keep(ANSWER)

    working = threading.Thread(target=work)
    working.start()
    assert inside.wait(30)
    with pytest.raises(KeyInUse), store.claim("k", b"r"):
        pass
    leave.set()
    working.join()
    with store.claim("k", b"r") as claim:
        assert claim.answer == ANSWER


def test_a_key_is_forgotten_after_a_day(store: IdempotencyStore, clock: Clock) -> None:
    answer(store)
    clock.now += KEPT_S - 1
    with store.claim("k", b"r") as claim:
        assert claim.answer == ANSWER
    clock.now += 2
    answer(store, request=b"other")


@pytest.mark.parametrize("data", [b"no database", b"SQLite format 3\0" + bytes(84)])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    answer(IdempotencyStore(tmp_path))


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        IdempotencyStore(tmp_path / "nowhere")
