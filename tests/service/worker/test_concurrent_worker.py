"""The worker for a model that runs elsewhere: calls side by side, errors that reach their callers,
callers that leave, shutdown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compressor.errors import ImageRefused
from compressor.ports import (
    GenerationLimits,
    GenerationRequest,
    Generator,
    Piece,
    Summary,
    SummaryModel,
    Turn,
)
from service.errors import (
    DeadlineExceeded,
    ModelFailed,
    PictureRefused,
    QueueFull,
    RequestCancelled,
    ShuttingDown,
)
from service.worker.concurrent_worker import ConcurrentWorker
from service.worker.request_context import RequestContext
from tests.eventually import eventually
from tests.fakes.model import (
    FakeGenerator,
    FakeSummaryModel,
    Gate,
    InterruptedGenerator,
    InterruptedModel,
    held_after,
)

RED, BLUE = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")


@contextmanager
def working(
    model: SummaryModel | None = None,
    generator: Generator | None = None,
    *,
    queue_size: int = 8,
    observe_batch: Callable[[str, int], None] = lambda work, size: None,
) -> Iterator[ConcurrentWorker]:
    """A worker whose model is ready."""
    worker = ConcurrentWorker(
        lambda: (model or FakeSummaryModel(), generator or FakeGenerator()),
        queue_size=queue_size,
        batch_size=4,
        observe_batch=observe_batch,
        on_failure=lambda: None,
    )
    worker.start()
    assert worker.loaded.wait(30)
    try:
        yield worker
    finally:
        worker.close()


def question(text: str = "count") -> GenerationRequest:
    (tokens,) = FakeSummaryModel().compress([RED]).tokens
    return GenerationRequest([tokens], [Turn("user", text)])


def test_calls_are_under_way_at_a_time_and_keep_their_order() -> None:
    barrier = threading.Barrier(4, timeout=30)
    with working(InterruptedModel(lambda _: barrier.wait())) as worker:
        images = worker.compress([RED, BLUE, RED])
        text = worker.embed_text("blue")
        results = RequestContext(30).wait(images)
        embedding = text.result(30)
    expected = FakeSummaryModel().compress([RED, BLUE, RED])
    for number, result in enumerate(results):
        np.testing.assert_array_equal(result.tokens, expected.tokens[number])
        np.testing.assert_array_equal(result.embedding, expected.embeddings[number])
    np.testing.assert_array_equal(embedding, FakeSummaryModel().embed_text(["blue"])[0])


def test_a_refused_picture_costs_its_neighbours_nothing() -> None:
    class Squeamish(FakeSummaryModel):
        def compress(self, images: Sequence[Image.Image]) -> Summary:
            if BLUE in images:
                raise ImageRefused(list(images).index(BLUE), "too blue")
            return super().compress(images)

    with working(Squeamish()) as worker:
        red, blue = worker.compress([RED, BLUE])
        assert red.result(30).tokens.any()
        with pytest.raises(PictureRefused, match="too blue"):
            blue.result(30)


def test_a_call_that_hangs_holds_nobody_beyond_the_deadline() -> None:
    gate = Gate()
    with working(InterruptedModel(lambda _: gate.pass_through())) as worker:
        hanging = worker.embed_text("hanging")
        gate.wait_for_arrival()
        (outcome,) = RequestContext(0.0).outcomes([hanging])
        assert isinstance(outcome, DeadlineExceeded)
        gate.opened.set()
        worker.embed_text("next").result(30)


def test_a_call_without_a_result_is_an_error() -> None:
    class Forgetful(FakeSummaryModel):
        def embed_text(self, texts: Sequence[str]) -> np.ndarray:
            return super().embed_text(texts)[1:]

    with working(Forgetful()) as worker, pytest.raises(ValueError, match="unpack"):
        worker.embed_text("a").result(30)


def test_answers_come_side_by_side_and_a_closed_one_stops() -> None:
    gate, generator = held_after(1)
    with working(generator=generator) as worker:
        context = RequestContext(30)
        first, second = (
            worker.answer(question(), GenerationLimits(max_tokens=3)).read(context)
            for _ in range(2)
        )
        assert [next(first).text, next(second).text] == ["1 ", "1 "]
        gate.opened.set()
        assert "".join(piece.text for piece in first) == "2 3 "
        endless = worker.answer(question(), GenerationLimits(max_tokens=90_000))
        pieces = endless.read(context)
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert generator.closed_early.wait(30)
        list(second)
    assert worker.answers.slots_taken == 0


def test_an_answer_without_an_end_and_one_that_fails_are_errors() -> None:
    class Forgetful(FakeGenerator):
        def generate(
            self,
            requests: Sequence[GenerationRequest],
            limits: Sequence[GenerationLimits],
        ) -> Iterator[Piece]:
            yield next(iter(super().generate(requests, limits)))

    def break_down(_: Piece) -> None:
        raise OSError("broken")

    context = RequestContext(30)
    for generator, error in (
        (Forgetful(), ModelFailed),
        (InterruptedGenerator(break_down), OSError),
    ):
        with working(generator=generator) as worker, pytest.raises(error):
            list(worker.answer(question(), GenerationLimits()).read(context))


def test_more_answers_than_slots_are_refused_at_once() -> None:
    gate, generator = held_after(0)
    with working(generator=generator, queue_size=1) as worker:
        held = worker.answer(question(), GenerationLimits(max_tokens=1))
        with pytest.raises(QueueFull):
            worker.answer(question(), GenerationLimits())
        gate.opened.set()
        assert [piece.text for piece in held.read(RequestContext(30))] == ["1 "]


def test_calls_are_counted_and_their_time_once_however_many_are_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s, gate = [5.0], Gate()
    clock = SimpleNamespace(perf_counter=lambda: now_s[0])
    monkeypatch.setattr("service.worker.concurrent_worker.time", clock)
    batches: list[tuple[str, int]] = []

    def wait_or_fail(batch: Sequence[object]) -> None:
        gate.pass_through()
        if "bad" in batch:
            raise OSError("broken")

    def observe(work: str, size: int) -> None:
        batches.append((work, size))

    with working(InterruptedModel(wait_or_fail), observe_batch=observe) as worker:
        texts = [worker.embed_text("good"), worker.embed_text("bad")]
        for _ in texts:
            gate.wait_for_arrival()
        now_s[0] += 3
        gate.opened.set()
        _, failed = RequestContext(30).outcomes(texts)
        assert isinstance(failed, OSError)
        now_s[0] += 100
        answer = worker.answer(question(), GenerationLimits(max_tokens=3))
        list(answer.read(RequestContext(30)))
    assert batches == [("texts", 1)] * 2
    assert (worker.texts.done, worker.texts.busy_s) == (2, 3.0)
    assert (worker.answers.done, worker.answers.busy_s) == (1, 0.0)
    assert worker.images.done == 0


def test_who_finds_no_place_is_told_when_to_come_back() -> None:
    gate, generator = held_after(0)
    with working(generator=generator, queue_size=2) as worker:
        # As after 10 answers, of which one came every 2.6 s, and up to 4 s of this test.
        worker.answers.done, worker.answers.busy_s = 10, 26.0
        held = [worker.answer(question(), GenerationLimits()) for _ in range(2)]
        with pytest.raises(QueueFull) as refused:
            worker.answer(question(), GenerationLimits())
        assert refused.value.retry_after_s == 6
        gate.opened.set()
        for stream in held:
            list(stream.read(RequestContext(30)))


def test_closing_waits_for_calls_and_ends_answers() -> None:
    gate = Gate()
    model = InterruptedModel(lambda _: gate.pass_through())
    _, generator = held_after(90_000)
    with working(model, generator) as worker:
        in_work = worker.embed_text("in work")
        gate.wait_for_arrival()
        answer = worker.answer(question(), GenerationLimits(max_tokens=90_000))
        pieces = answer.read(RequestContext(30))
        next(pieces)
        closing = threading.Thread(target=worker.close)
        closing.start()
        eventually(lambda: _refuses(worker))
        with pytest.raises(ShuttingDown):
            list(pieces)
        assert closing.is_alive()
        gate.opened.set()
        closing.join(30)
        assert in_work.result(30) is not None


def test_work_cancelled_before_its_thread_begins_is_not_begun() -> None:
    gate = Gate()
    seen: list[Any] = []

    def note(batch: Sequence[object]) -> None:
        seen.extend(batch)
        gate.pass_through()

    model, generator = InterruptedModel(note), InterruptedGenerator(seen.append)
    with working(model, generator, queue_size=1) as worker:
        held = [worker.embed_text(f"held {number}") for number in range(3)]
        for _ in held:
            gate.wait_for_arrival()
        context = RequestContext(30)
        gone = worker.embed_text("gone")
        context.track(gone)
        context.cancel()
        worker.answer(question(), GenerationLimits()).cancel()
        gate.opened.set()
        RequestContext(30).wait(held)
        with pytest.raises(RequestCancelled):
            context.wait([gone])
    assert sorted(seen) == ["held 0", "held 1", "held 2"]
    assert (worker.texts.done, worker.answers.done) == (3, 0)


def _refuses(worker: ConcurrentWorker) -> bool:
    try:
        worker.check_ready()
    except ShuttingDown:
        return True
    return False
