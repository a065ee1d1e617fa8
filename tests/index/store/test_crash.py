"""Killed at any point, the library has every acknowledged image whole and nothing half done.

A child process puts, deletes, recodes and reopens, telling the parent before and after each call;
the parent kills it (SIGKILL) after a random number of messages and a random number of turns of an
empty loop, so that the kill falls anywhere in a call. Every round goes on with what the round
before left.
"""

from __future__ import annotations

import multiprocessing
import random
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from index.fsck import check_folder
from index.library import Library, open_library
from index.vectors import snapshot
from tests.index.libraries import assert_found, assert_kept, counts, page_ids
from tests.index.samples import (
    EMBEDDING_SIZE,
    FINGERPRINT,
    TOKEN_SHAPE,
    make_id,
    make_ids,
    make_images,
)

NUMBERS = 40  # images that come and go
FORKS = multiprocessing.get_context(
    "forkserver"
)  # a fork of a process that only imported: quick, and without threads
FORKS.set_forkserver_preload([__name__])


def open_here(folder: Path, codec: str = "sq8") -> Library:
    return open_library(
        folder,
        fingerprint=FINGERPRINT,
        token_shape=TOKEN_SHAPE,
        embedding_size=EMBEDDING_SIZE,
        codec=codec,
    )


def child(folder: Path, seed: int, parent: Connection) -> None:
    """Tells ("put" or "delete", numbers) before a call and ("done", numbers) once it is
    acknowledged; never ends.
    """
    snapshot.SAVE_FROM_VECTORS = (
        0  # in this process alone: snapshots are to be interrupted, too
    )
    choice = random.Random(seed)
    library = open_here(folder, choice.choice(["sq8", "fp16"]))
    while True:
        what = choice.choice(
            ["put", "put", "put", "delete", "delete", "reopen", "recode"]
        )
        numbers = choice.sample(range(NUMBERS), choice.randint(1, 6))
        parent.send((what, numbers))
        if what == "put":
            library.put(make_images(numbers))
        elif what == "delete":
            library.delete(make_ids(numbers))
        else:
            library.close()
            library = open_here(folder, choice.choice(["sq8", "fp16"]))
            if what == "recode":
                list(library.recode())
        parent.send(("done", numbers))


def run_and_kill(folder: Path, seed: int) -> list[tuple[str, list[int]]]:
    """All that the child told before it was killed."""
    choice = random.Random(seed)
    told: list[tuple[str, list[int]]] = []
    ours, theirs = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=child, args=(folder, seed, theirs))
    process.start()
    theirs.close()
    try:
        told += [ours.recv() for _ in range(choice.randint(1, 30))]
        for _ in range(choice.randrange(40_000)):
            pass
    finally:
        process.kill()
        process.join()
    try:
        while True:
            told.append(ours.recv())
    except EOFError:
        pass
    ours.close()
    process.close()
    return told


def after(state: set[int], what: str, numbers: list[int]) -> set[int]:
    return {
        "put": state | set(numbers),
        "delete": state - set(numbers),
        "reopen": state,
        "recode": state,
    }[what]


def check(library: Library, expected: set[int]) -> None:
    """Store, index and codecs agree on exactly these images, whole."""
    ids = sorted(make_ids(expected))
    assert sorted(page_ids(library, limit=NUMBERS + 1)) == ids
    assert counts(library) == {len(expected)}
    for number in expected:
        assert_found(library, [number])
        assert_kept(library, number)


def survive(folder: Path, rounds: int, seed: int) -> None:
    state: set[int] = set()
    interrupted = 0
    for number in range(rounds):
        told = run_and_kill(folder, seed + number)
        unfinished: tuple[str, list[int]] | None = None
        for what, numbers in told:
            if what == "done":
                assert unfinished is not None
                state = after(state, *unfinished)
                unfinished = None
            else:
                unfinished = (what, numbers)
        assert check_folder(folder).findings == []
        library = open_here(folder)
        try:
            found = {n for n in range(NUMBERS) if library.get([make_id(n)]) != [None]}
            if unfinished is not None:
                interrupted += 1
                # The call in flight happened as a whole or not at all.
                assert found in (state, after(state, *unfinished))
                state = found
            check(library, state)
        finally:
            library.close()
    # Else the kills fell between the calls and showed nothing.
    assert interrupted > rounds // 4


def test_killed_twenty_times(tmp_path: Path) -> None:
    survive(tmp_path, rounds=20, seed=1)


@pytest.mark.long
def test_killed_five_hundred_times(tmp_path: Path) -> None:
    survive(tmp_path, rounds=500, seed=1000)
