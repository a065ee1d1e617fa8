"""The worker: micro-batches, fair shares, errors that reach their callers, callers that leave,
shutdown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from compressor.errors import RequestTooLong
from compressor.ports import (
    GenerationLimits,
    GenerationRequest,
    Generator,
    Piece,
    SummaryModel,
    Turn,
)
from service.errors import (
    DeadlineExceeded,
    ModelFailed,
    NotReady,
    QueueFull,
    RequestCancelled,
    ShuttingDown,
)
from service.worker.answer_stream import AnswerStream
from service.worker.queues import LONGEST_STEP_S, BatchQueue
from service.worker.request_context import RequestContext
from service.worker.worker import ModelWorker
from tests.eventually import eventually
from tests.fakes.model import (
    CONTEXT_WORDS,
    FakeGenerator,
    FakeSummaryModel,
    Gate,
    InterruptedGenerator,
    InterruptedModel,
)

RED = Image.new("RGB", (8, 8), "red")


@contextmanager
def working(
    model: SummaryModel | None = None,
    generator: Generator | None = None,
    *,
    queue_size: int = 64,
    batch_size: int = 4,
    observe_batch: Callable[[str, int], None] = lambda work, size: None,
) -> Iterator[ModelWorker]:
    """A worker whose model is ready."""
    worker = ModelWorker(
        lambda: (model or FakeSummaryModel(), generator or FakeGenerator()),
        queue_size=queue_size,
        batch_size=batch_size,
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


def refuses(worker: ModelWorker) -> bool:
    try:
        worker.check_ready()
    except ShuttingDown:
        return True
    return False


def heard(stream: AnswerStream) -> str:
    pieces = stream.read(RequestContext(30))
    return "".join(piece.text for piece in pieces)


def test_what_waits_while_the_model_is_busy_becomes_one_batch() -> None:
    gate, batches = Gate(), []
    model = InterruptedModel(lambda _: gate.pass_through())

    def observe(work: str, size: int) -> None:
        batches.append((work, size))

    with working(model, observe_batch=observe) as worker:
        first = worker.compress([RED])
        gate.wait_for_arrival()
        rest = worker.compress([RED] * 6)
        gate.opened.set()
        results = RequestContext(30).wait(first + rest)
    assert batches == [("images", 1), ("images", 4), ("images", 2)]
    expected = FakeSummaryModel().compress([RED])
    for result in results:
        np.testing.assert_array_equal(result.tokens, expected.tokens[0])
        np.testing.assert_array_equal(result.embedding, expected.embeddings[0])


def test_texts_keep_their_order_across_batches() -> None:
    texts = [f"text {number}" for number in range(11)]
    with working() as worker:
        futures = [worker.embed_text(text) for text in texts]
        embeddings = RequestContext(30).wait(futures)
    np.testing.assert_array_equal(embeddings, FakeSummaryModel().embed_text(texts))


def test_a_bad_item_does_not_cost_its_neighbours_their_results() -> None:
    gate = Gate()

    def fail_on_bad(batch: Sequence[object]) -> None:
        gate.pass_through()
        if "bad" in batch:
            raise ValueError("bad item")

    with working(InterruptedModel(fail_on_bad)) as worker:
        worker.embed_text("first")
        gate.wait_for_arrival()
        futures = [worker.embed_text(text) for text in ("good", "bad", "fine")]
        gate.opened.set()
        good, _, fine = futures
        assert good.result(30).shape == fine.result(30).shape
        with pytest.raises(ValueError, match="bad item"):
            futures[1].result(30)


def test_a_model_that_returns_too_few_is_an_error_and_not_a_wait_forever() -> None:
    class Forgetful(FakeSummaryModel):
        def embed_text(self, texts: Sequence[str]) -> np.ndarray:
            return super().embed_text(texts)[1:]

    with working(Forgetful()) as worker, pytest.raises(ModelFailed):
        RequestContext(30).wait([worker.embed_text("a")])


def test_who_has_gone_costs_the_model_nothing() -> None:
    gate, seen = Gate(), []

    def note(batch: Sequence[object]) -> None:
        seen.extend(batch)
        gate.pass_through()

    with working(InterruptedModel(note)) as worker:
        held = worker.embed_text("held")
        gate.wait_for_arrival()
        context = RequestContext(30)
        gone = worker.embed_text("gone")
        context.track(gone)
        stays = worker.embed_text("stays")
        context.cancel()
        gate.opened.set()
        RequestContext(30).wait([held, stays])
        with pytest.raises(RequestCancelled):
            context.wait([gone])
    assert seen == ["held", "stays"]


def test_a_deadline_ends_the_wait_and_calls_the_work_off() -> None:
    gate = Gate()
    with working(InterruptedModel(lambda _: gate.pass_through())) as worker:
        held = worker.embed_text("held")
        gate.wait_for_arrival()
        late = worker.embed_text("late")
        with pytest.raises(DeadlineExceeded):
            RequestContext(0.0).wait([late])
        assert late.cancelled()
        gate.opened.set()
        held.result(30)


def test_work_that_has_begun_is_waited_for_and_the_rest_called_off() -> None:
    gate = Gate()
    with working(InterruptedModel(lambda _: gate.pass_through())) as worker:
        begun = worker.embed_text("begun")
        gate.wait_for_arrival()
        late = worker.embed_text("late")
        # The deadline has passed when the wait begins: it ends what has not begun, at once.
        late.add_done_callback(lambda _: gate.opened.set())
        error, result = RequestContext(0.0).outcomes([late, begun])
    assert isinstance(result, np.ndarray)
    assert isinstance(error, DeadlineExceeded)


def test_a_step_is_as_long_as_its_items_are_slow() -> None:
    batches: list[int] = []
    queue: BatchQueue[int, int] = BatchQueue(
        "numbers",
        lambda items: list(items),
        queue_size=64,
        batch_size=16,
        observe_batch=lambda _, size: batches.append(size),
    )
    queue.add([(number, Future()) for number in range(40)])
    for mean_s in (0.01, 1.0, 60.0):
        queue.done, queue.busy_s = 1, mean_s
        queue.step()
    assert batches == [16, int(LONGEST_STEP_S), 1]


def test_who_finds_no_place_is_refused_at_once_and_told_when_to_come_back() -> None:
    with working(queue_size=3) as worker, worker.images.slots(2):
        with pytest.raises(QueueFull) as refused, worker.images.slots(2):
            pass
        assert refused.value.retry_after_s is not None
        assert 1 <= refused.value.retry_after_s <= 60
        with worker.images.slots(1):
            assert worker.images.slots_taken == 3
    assert worker.images.slots_taken == 0


def test_answers_that_wait_together_are_made_together_and_in_turn() -> None:
    gate = Gate()
    generator = InterruptedGenerator(lambda _: gate.pass_through())
    with working(generator=generator) as worker:
        limits = GenerationLimits(max_tokens=3)
        streams = [worker.answer(question(), limits) for _ in range(6)]
        gate.opened.set()
        assert [heard(stream) for stream in streams] == ["1 2 3 "] * 6


def test_images_and_texts_get_through_while_a_long_answer_is_made() -> None:
    with working() as worker:
        context = RequestContext(30)
        pieces = worker.answer(question(), GenerationLimits(max_tokens=90_000)).read(
            context
        )
        assert next(pieces).text == "1 "
        for _ in range(3):
            RequestContext(30).wait(worker.compress([RED]))
            RequestContext(30).wait([worker.embed_text("a")])
        late_question = worker.answer(question("colours"), GenerationLimits())
        assert heard(late_question) == "I see red."
        context.cancel()
        with pytest.raises(RequestCancelled):
            list(pieces)


def test_a_closed_stream_stops_the_model() -> None:
    generator = InterruptedGenerator(lambda _: None)
    with working(generator=generator) as worker:
        pieces = worker.answer(question(), GenerationLimits(max_tokens=90_000)).read(
            RequestContext(30)
        )
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert generator.closed_early.wait(30)
        assert (
            heard(worker.answer(question("colours"), GenerationLimits()))
            == "I see red."
        )


def test_one_question_too_long_does_not_cost_the_others_their_answers() -> None:
    gate = Gate()
    with working(InterruptedModel(lambda _: gate.pass_through())) as worker:
        held = worker.embed_text("held")
        gate.wait_for_arrival()
        good, bad = (
            worker.answer(question(text), GenerationLimits(max_tokens=3))
            for text in ("count", "why " * (CONTEXT_WORDS + 1))
        )
        gate.opened.set()
        held.result(30)
        assert heard(good) == "1 2 3 "
        with pytest.raises(RequestTooLong):
            heard(bad)


def test_an_answer_without_an_end_is_an_error() -> None:
    class Forgetful(FakeGenerator):
        def generate(
            self,
            requests: Sequence[GenerationRequest],
            limits: Sequence[GenerationLimits],
        ) -> Iterator[Piece]:
            yield next(iter(super().generate(requests, limits)))

    with working(generator=Forgetful()) as worker, pytest.raises(ModelFailed):
        heard(worker.answer(question(), GenerationLimits()))


def test_every_answer_that_was_begun_is_counted() -> None:
    gate = Gate()

    def break_down_in_the_second(piece: Piece) -> None:
        gate.pass_through()
        if piece.completion_tokens > 1:
            raise OSError("broken")

    with working(generator=InterruptedGenerator(break_down_in_the_second)) as worker:
        held = worker.answer(question(), GenerationLimits(max_tokens=1))
        gate.wait_for_arrival()
        short, long = (
            worker.answer(question(), GenerationLimits(max_tokens=tokens))
            for tokens in (1, 2)
        )
        gate.opened.set()
        assert heard(held) == heard(short) == "1 "
        with pytest.raises(OSError, match="broken"):
            heard(long)
    assert worker.answers.done == 3


def test_the_model_is_only_ever_called_on_its_own_thread() -> None:
    threads: set[str] = set()

    def note(_: object) -> None:
        threads.add(threading.current_thread().name)

    with working(InterruptedModel(note), InterruptedGenerator(note)) as worker:
        RequestContext(30).wait(worker.compress([RED]))
        RequestContext(30).wait([worker.embed_text("a")])
        heard(worker.answer(question("colours"), GenerationLimits()))
    assert threads == {"model"}


def test_closing_gives_everyone_who_waits_an_error() -> None:
    gate = Gate()
    with working(InterruptedModel(lambda _: gate.pass_through())) as worker:
        in_work = worker.embed_text("in work")
        gate.wait_for_arrival()
        waiting, stream = (
            worker.embed_text("waiting"),
            worker.answer(question(), GenerationLimits()),
        )
        closing = threading.Thread(target=worker.close)
        closing.start()
        eventually(lambda: refuses(worker))
        gate.opened.set()
        closing.join(30)
        assert in_work.result(30) is not None
        with pytest.raises(ShuttingDown):
            waiting.result(30)
        with pytest.raises(ShuttingDown):
            heard(stream)
        with pytest.raises(ShuttingDown):
            worker.embed_text("too late")
        with pytest.raises(ShuttingDown):
            worker.answer(question(), GenerationLimits())
        assert worker.answers.slots_taken == 0


def test_before_it_is_loaded_nothing_is_taken() -> None:
    gate = Gate()

    def load() -> tuple[SummaryModel, Generator]:
        gate.pass_through()
        return FakeSummaryModel(), FakeGenerator()

    worker = ModelWorker(
        load,
        queue_size=1,
        batch_size=1,
        observe_batch=lambda work, size: None,
        on_failure=lambda: None,
    )
    worker.start()
    with pytest.raises(NotReady):
        worker.embed_text("early")
    gate.opened.set()
    assert worker.loaded.wait(30)
    worker.embed_text("now").result(30)
    worker.close()
