"""The default model's second pass on a real vLLM server, against the one in this process."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import service
from compressor.errors import EngineOfOtherModel, EngineUnreachable
from compressor.fwd2bot.causal_lm import save_causal_lm
from compressor.fwd2bot.generator import LvlmGenerator, whole_answers
from compressor.fwd2bot.vllm_engine import VllmGenerator
from compressor.ports import Choice, GenerationLimits, GenerationRequest, Number, Turn
from index.ports import NewImage
from service.models import load_in_torch
from service.runtime import library_of
from service.settings import Settings
from tests.vllm.vllm_process import PYTHON, VllmProcess

pytestmark = pytest.mark.vllm

IMAGES = 50
QUESTIONS = (
    "What is in the image?",
    "What color is it?",
    "Is there a cat?",
    "How many animals are there?",
    "Where was this taken?",
)
SAMPLES = Path(service.__file__).parent / "web" / "samples"
LIMIT = GenerationLimits(max_tokens=24)


@dataclass(frozen=True)
class Contract:
    """Both engines over the same weights, and questions about stored images."""

    in_torch: LvlmGenerator
    fingerprint: str
    server: VllmProcess
    requests: list[GenerationRequest]

    def connect(self, fingerprint: str | None = None) -> VllmGenerator:
        return VllmGenerator(
            self.in_torch.model,
            self.server.url,
            fingerprint or self.fingerprint,
            timeout_s=300.0,
            retries=0,
        )


def parts_of_photographs() -> list[Image.Image]:
    """Different parts of the sample photographs."""
    parts = []
    paths = sorted(SAMPLES.glob("*.jpg"))
    for number in range(IMAGES):
        with Image.open(paths[number % len(paths)]) as photograph:
            inset = number // len(paths)
            width, height = photograph.size
            box = (inset * 4, inset * 3, width - inset * 2, height - inset * 5)
            parts.append(photograph.convert("RGB").crop(box))
    return parts


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    if not PYTHON.exists():
        pytest.skip("vLLM is not installed")
    folder = tmp_path_factory.mktemp("vllm")
    settings = Settings(data_dir=folder / "data", device="cpu", dtype="float32")
    models = load_in_torch(settings)
    assert isinstance(models.generator, LvlmGenerator)
    fingerprint = models.summary.fingerprint
    save_causal_lm(models.generator.model, fingerprint, folder / "second-pass")
    summary = models.as_kept.compress(parts_of_photographs())
    with closing(library_of(models, settings, folder / "data")) as library:
        stored = library.put(
            [
                NewImage(
                    f"{number:032x}" * 2, fingerprint, tokens, embedding, 8, 8, {}, None
                )
                for number, (tokens, embedding) in enumerate(
                    zip(summary.tokens, summary.embeddings, strict=True)
                )
            ]
        )
        kept = library.tokens([image.id for image in stored])
    requests = []
    for number, tokens in enumerate(kept):
        assert tokens is not None
        question = Turn("user", QUESTIONS[number % len(QUESTIONS)])
        requests.append(GenerationRequest([tokens], [question]))
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        server = VllmProcess(folder / "second-pass", fingerprint, port, log)
        try:
            server.start()
            yield Contract(models.generator, fingerprint, server, requests)
        finally:
            server.stop()


def test_the_answers_are_those_of_this_process(contract: Contract) -> None:
    limits = [LIMIT] * IMAGES
    expected = whole_answers(contract.in_torch, contract.requests, limits)
    assert len(set(expected)) > len(QUESTIONS)
    with closing(contract.connect()) as generator:
        # All at a time.
        assert whole_answers(generator, contract.requests, limits) == expected


def test_answers_are_streamed(contract: Contract) -> None:
    with closing(contract.connect()) as generator:
        pieces = list(generator.generate(contract.requests[:4], [LIMIT] * 4))
    texts = Counter(piece.request for piece in pieces if piece.text)
    assert all(texts[number] > 1 for number in range(4))
    last = {piece.request: piece for piece in pieces}
    assert {piece.finish_reason for piece in last.values()} <= {"stop", "length"}
    for piece in last.values():
        assert piece.mean_probability is not None
        assert 0 < piece.mean_probability <= 1


def test_answers_have_the_form_that_is_asked_for(contract: Contract) -> None:
    images = contract.requests[0].images
    asked = [
        GenerationRequest(
            images, [Turn("user", "Cat or dog?")], Choice(("cat", "dog"))
        ),
        GenerationRequest(images, [Turn("user", "How many are there?")], Number()),
    ]
    limits = [LIMIT] * len(asked)
    with closing(contract.connect()) as generator:
        chosen, number = whole_answers(generator, asked, limits)
    assert chosen in ("cat", "dog")
    float(number)


def test_the_answers_are_the_same_after_a_restart(contract: Contract) -> None:
    requests, limits = contract.requests[:5], [LIMIT] * 5
    with closing(contract.connect()) as generator:
        before = whole_answers(generator, requests, limits)
        contract.server.stop()
        with pytest.raises(EngineUnreachable):
            whole_answers(generator, requests, limits)
        contract.server.start()
        assert whole_answers(generator, requests, limits) == before


def test_another_fingerprint_is_refused(contract: Contract) -> None:
    with pytest.raises(EngineOfOtherModel, match="1" * 32):
        contract.connect("1" * 32)
