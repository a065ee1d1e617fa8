"""Answers by key: the first one again, never another's, and not for ever."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from index.errors import KeyInUse, KeyReused, StoreError
from service.idempotency import FILE_NAME, KEPT_S, IdempotencyStore, Receipt

ANSWER = Receipt(201, b'{"a": 1}')


class Clock:
    """A fake clock."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receipts(tmp_path: Path, clock: Clock) -> IdempotencyStore:
    return IdempotencyStore(tmp_path, clock)


def answer(receipts: IdempotencyStore, key: str = "k", request: bytes = b"r") -> None:
    with receipts.once(key, request) as slot:
        assert slot.receipt is None
        slot.answer(ANSWER)


def test_the_first_answer_comes_again(receipts: IdempotencyStore) -> None:
    answer(receipts)
    with receipts.once("k", b"r") as slot:
        assert slot.receipt == ANSWER
    answer(receipts, "another key")


def test_it_is_kept_on_the_disk(receipts: IdempotencyStore, tmp_path: Path, clock: Clock) -> None:
    answer(receipts)
    other = IdempotencyStore(tmp_path, clock)  # as after a crash: the first was never closed
    with other.once("k", b"r") as slot:
        assert slot.receipt == ANSWER
    other.close()
    receipts.close()


def test_another_request_is_refused(receipts: IdempotencyStore) -> None:
    answer(receipts)
    with pytest.raises(KeyReused), receipts.once("k", b"other"):
        pass
    with receipts.once("k", b"r") as slot:
        assert slot.receipt == ANSWER


def test_a_key_in_work_is_refused_and_free_again_afterwards(receipts: IdempotencyStore) -> None:
    with receipts.once("k", b"r"):
        with pytest.raises(KeyInUse), receipts.once("k", b"r"):
            pass
        answer(receipts, "another key")
    with pytest.raises(ZeroDivisionError), receipts.once("k", b"r"):
        raise ZeroDivisionError
    answer(receipts)


def test_of_many_at_once_one_works(receipts: IdempotencyStore) -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with receipts.once("k", b"r") as slot:
            inside.set()
            assert leave.wait(30)
            slot.answer(ANSWER)

    working = threading.Thread(target=work)
    working.start()
    assert inside.wait(30)
    with pytest.raises(KeyInUse), receipts.once("k", b"r"):
        pass
    leave.set()
    working.join()
    with receipts.once("k", b"r") as slot:
        assert slot.receipt == ANSWER


def test_a_key_is_forgotten_after_a_day(receipts: IdempotencyStore, clock: Clock) -> None:
    answer(receipts)
    clock.now += KEPT_S - 1
    with receipts.once("k", b"r") as slot:
        assert slot.receipt == ANSWER
    clock.now += 2
    answer(receipts, request=b"other")


@pytest.mark.parametrize("data", [b"no database", b"SQLite format 3\0" + bytes(84)])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    answer(IdempotencyStore(tmp_path))


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        IdempotencyStore(tmp_path / "nowhere")
