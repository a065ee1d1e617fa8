"""The second pass on a vLLM server: its answers, and what happens when the server fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from compressor.errors import (
    CompressorError,
    EngineFailed,
    EngineOfOtherModel,
    EngineUnreachable,
)
from compressor.fwd2bot.generator import LvlmGenerator, whole_answers
from compressor.fwd2bot.second_pass_engines import ENGINES
from compressor.fwd2bot.vllm_engine import VllmGenerator
from compressor.ports import GenerationLimits, GenerationRequest, Turn
from service.settings import Settings
from tests.clients.serving import address_of_nobody
from tests.conformance.summary_model_suite import pictures
from tests.conformance.tiny_vllm import served_tiny_lvlm
from tests.fakes.vllm_server import FakeVllm

FINGERPRINT = "0" * 32
LONG = GenerationLimits(max_tokens=40)


@pytest.fixture
def server() -> Iterator[FakeVllm]:
    """The server without faults, before and after."""
    fake = served_tiny_lvlm()[2]
    fake.requests = 0
    fake.abandoned.clear()
    yield fake
    fake.refusals = []
    fake.break_after = None
    fake.stall = None
    fake.tells_ids = True
    fake.served = FINGERPRINT


@pytest.fixture
def in_torch() -> LvlmGenerator:
    return served_tiny_lvlm()[1]


@pytest.fixture
def generator(server: FakeVllm, in_torch: LvlmGenerator) -> Iterator[VllmGenerator]:
    made = VllmGenerator(in_torch.model, server.url, FINGERPRINT, retries=2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def requests() -> list[GenerationRequest]:
    """Of different lengths, about one image and about two."""
    tokens = list(served_tiny_lvlm()[0].compress(pictures()[:4]).tokens)
    return [
        GenerationRequest(tokens[:1], [Turn("user", "what is in the image ?")]),
        GenerationRequest(tokens[1:3], [Turn("user", "why ? " * 30)]),
        GenerationRequest(tokens[3:], [Turn("user", "what ?")]),
    ]


def failure(
    generator: VllmGenerator, requests: list[GenerationRequest]
) -> CompressorError:
    """The error that ends an answer to the first request."""
    with pytest.raises(CompressorError) as caught:
        list(generator.generate(requests[:1], [LONG]))
    assert "\n" not in str(caught.value)
    return caught.value


def test_answers_are_those_of_the_second_pass_in_this_process(
    generator: VllmGenerator,
    in_torch: LvlmGenerator,
    requests: list[GenerationRequest],
) -> None:
    limits = [LONG] * len(requests)
    expected = whole_answers(in_torch, requests, limits)
    assert whole_answers(generator, requests, limits) == expected
    last = {piece.request: piece for piece in generator.generate(requests, limits)}
    same = {piece.request: piece for piece in in_torch.generate(requests, limits)}
    for number, piece in last.items():
        assert piece.prompt_tokens == same[number].prompt_tokens
        assert piece.completion_tokens == same[number].completion_tokens
        assert piece.finish_reason == same[number].finish_reason
        assert piece.mean_probability == pytest.approx(
            same[number].mean_probability, rel=1e-3
        )


def test_a_server_that_is_busy_is_asked_again(
    generator: VllmGenerator, server: FakeVllm, requests: list[GenerationRequest]
) -> None:
    server.refusals = [503, 429]
    assert whole_answers(generator, requests[:1], [LONG])[0]
    assert server.requests == 3


def test_a_server_that_stays_busy_is_unreachable(
    generator: VllmGenerator, server: FakeVllm, requests: list[GenerationRequest]
) -> None:
    server.refusals = [503] * 3
    assert isinstance(failure(generator, requests), EngineUnreachable)
    assert server.requests == 3
    assert whole_answers(generator, requests[:1], [LONG])[0]


def test_a_request_that_the_server_refuses_is_not_repeated(
    generator: VllmGenerator, server: FakeVllm, requests: list[GenerationRequest]
) -> None:
    server.refusals = [400]
    assert isinstance(failure(generator, requests), EngineFailed)
    assert server.requests == 1


def test_a_version_that_is_too_old_is_named_as_such(
    generator: VllmGenerator, server: FakeVllm, requests: list[GenerationRequest]
) -> None:
    server.tells_ids = False
    error = failure(generator, requests)
    assert isinstance(error, EngineFailed)
    assert str(error).endswith("streams no token ids: it is no vLLM of 0.10.2 or later")


@pytest.mark.parametrize("tokens", [1, 5])
def test_an_answer_that_breaks_off_is_an_error(
    generator: VllmGenerator,
    server: FakeVllm,
    requests: list[GenerationRequest],
    tokens: int,
) -> None:
    server.break_after = tokens
    assert isinstance(failure(generator, requests), EngineUnreachable)
    assert server.requests == 1
    server.break_after = None
    assert whole_answers(generator, requests[:1], [LONG])[0]


def test_a_server_that_stalls_is_given_up_and_nobody_waits_for_it(
    server: FakeVllm, in_torch: LvlmGenerator, requests: list[GenerationRequest]
) -> None:
    server.stall = threading.Event()
    generator = VllmGenerator(
        in_torch.model, server.url, FINGERPRINT, timeout_s=0.5, retries=0
    )
    try:
        pieces = generator.generate(requests[:1], [LONG])
        first = next(pieces)
        # The caller has its thread back meanwhile.
        assert first.text == ""
        assert first.completion_tokens == 0
        with pytest.raises(EngineUnreachable, match="in time"):
            list(pieces)
    finally:
        server.stall.set()
        generator.close()


def test_a_closed_iterator_ends_the_request(
    generator: VllmGenerator, server: FakeVllm, requests: list[GenerationRequest]
) -> None:
    pieces = generator.generate(requests[:1], [GenerationLimits(max_tokens=200)])
    while next(pieces).completion_tokens == 0:
        pass
    pieces.close()
    assert server.abandoned.wait(30)


def test_nobody_listens(in_torch: LvlmGenerator) -> None:
    url = f"{address_of_nobody()}/v1"
    with pytest.raises(EngineUnreachable, match="the connection to vLLM"):
        VllmGenerator(in_torch.model, url, FINGERPRINT, retries=0)


def test_a_server_of_another_model_is_refused(
    server: FakeVllm, in_torch: LvlmGenerator
) -> None:
    with pytest.raises(EngineOfOtherModel, match="1" * 32):
        VllmGenerator(in_torch.model, server.url, "1" * 32)


def test_a_server_that_comes_back_with_another_model_answers_nothing(
    generator: VllmGenerator, server: FakeVllm, requests: list[GenerationRequest]
) -> None:
    server.served = "1" * 32
    assert isinstance(failure(generator, requests), EngineOfOtherModel)


def test_the_settings_choose_it(
    server: FakeVllm, in_torch: LvlmGenerator, tmp_path: Path
) -> None:
    generator = ENGINES["vllm"](in_torch, FINGERPRINT, tmp_path, 0, server.url)
    assert isinstance(generator, VllmGenerator)
    generator.close()
    with pytest.raises(ValidationError, match="needs a second_pass_url"):
        Settings(second_pass_engine="vllm")
