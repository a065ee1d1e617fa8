"""The default model as it is shipped, on photographs that scikit-image ships; the platform's cache
folder keeps the built base.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from compressor.default_model import build
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.load import assemble
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.onnx_engine.export import export, export_first_pass
from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator
from compressor.fwd2bot.onnx_engine.prompt_embedder import PromptEmbedder
from compressor.fwd2bot.onnx_engine.summary_model import OnnxSummaryModel
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import (
    Choice,
    GenerationLimits,
    GenerationRequest,
    Generator,
    JsonSchema,
    Number,
    SummaryModel,
    Turn,
)
from service.settings import default_model_dir

pytestmark = pytest.mark.model

# File, what finds it, words one of which names it: the cat is a tabby, the coffee an espresso.
PHOTOGRAPHS = (
    ("chelsea.png", "a cat", {"cat", "tabby"}),
    (
        "coffee.png",
        "a cup of coffee",
        {"coffee", "cup", "espresso"},
    ),
    (
        "rocket.jpg",
        "a rocket",
        {"rocket", "missile", "projectile"},
    ),
)


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where `make serve` keeps the built base; it is built now if it is not there."""
    return default_model_dir()


@pytest.fixture(scope="module")
def ports(folder: Path) -> tuple[SummaryModel, Generator]:
    return build.load_default(folder)


@pytest.fixture(scope="module")
def separate(folder: Path) -> SummaryLvlm:
    """The same model with both adapters as they were trained, not merged."""
    model = assemble(build.build(folder), SummaryConfig.load(build.WEIGHTS))
    adapter_folder.load(model, build.WEIGHTS)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    data = Path(skimage.__file__).parent / "data"
    return [Image.open(data / name).convert("RGB") for name, _, _ in PHOTOGRAPHS]


def test_the_adapters_know_the_built_base(folder: Path) -> None:
    """So that `precis eval --model BASE --adapters WEIGHTS` measures what is shipped."""
    name = SummaryConfig.load(build.WEIGHTS).base_model
    base = build.build(folder)
    assert adapter_folder.base_name(base) == name
    # On another machine the packages lie elsewhere.
    assert "site-packages" not in (base / "config.json").read_text()


def answers(
    generator: Generator,
    tokens: np.ndarray,
    question: str,
) -> list[str]:
    requests = [GenerationRequest([each], [Turn("user", question)]) for each in tokens]
    texts = [""] * len(requests)
    for piece in generator.generate(requests, [GenerationLimits(16)] * len(requests)):
        texts[piece.request] += piece.text
    return texts


def test_shapes(
    ports: tuple[SummaryModel, Generator], images: list[Image.Image]
) -> None:
    model = ports[0]
    assert model.tokens_shape == (16, 576)
    assert build.KEPT_TOKENS in model.description.budgets
    summary = model.compress(images)
    assert summary.tokens.shape == (3, 16, 576)
    assert summary.embeddings.shape == (3, model.embedding_size)
    assert np.isfinite(summary.tokens).all()
    np.testing.assert_allclose(
        np.linalg.norm(summary.embeddings, axis=1),
        1,
        atol=1e-5,
    )


def test_the_fingerprint_is_that_of_the_shipped_files(
    ports: tuple[SummaryModel, Generator], folder: Path
) -> None:
    assert ports[0].fingerprint == adapter_folder.fingerprint(build.WEIGHTS)
    assert build.build(folder) == build.build(folder)


def test_each_photograph_is_found_by_text(
    ports: tuple[SummaryModel, Generator], images: list[Image.Image]
) -> None:
    scores = (
        ports[0].embed_text([query for _, query, _ in PHOTOGRAPHS])
        @ ports[0].compress(images).embeddings.T
    )
    assert scores.argmax(1).tolist() == [0, 1, 2], scores


def test_each_photograph_is_named_from_its_tokens_alone(
    ports: tuple[SummaryModel, Generator], images: list[Image.Image]
) -> None:
    told = answers(
        ports[1],
        ports[0].compress(images).tokens,
        "What is in the image?",
    )
    for text, (_, _, names) in zip(told, PHOTOGRAPHS, strict=True):
        assert names & set(re.findall(r"[a-z]+", text.lower())), told


def test_answers_have_the_form_asked_for(
    ports: tuple[SummaryModel, Generator], images: list[Image.Image]
) -> None:
    tokens = ports[0].compress(images).tokens
    schema = {"type": "object", "properties": {"animal": {"enum": ["cat", "dog"]}}}
    schema |= {"required": ["animal"], "additionalProperties": False}
    requests = [
        GenerationRequest([tokens[0]], [Turn("user", question)], constraint)
        for question, constraint in (
            ("Is there a cat?", Choice(("Yes", "No"))),
            ("What animal is it?", Choice(("dog", "cat", "bird"))),
            ("How many cats are there?", Number()),
            ("What animal is it?", JsonSchema(json.dumps(schema))),
        )
    ]
    texts = [""] * len(requests)
    for piece in ports[1].generate(requests, [GenerationLimits(30)] * len(requests)):
        texts[piece.request] += piece.text
        assert piece.finish_reason in (None, "stop")
    assert texts[:2] == ["Yes", "cat"]
    assert float(texts[2]) >= 0
    assert json.loads(texts[3])["animal"] in ("cat", "dog")


def test_a_batch_gives_what_its_photographs_give_alone(
    ports: tuple[SummaryModel, Generator], images: list[Image.Image]
) -> None:
    together, alone = ports[0].compress(images), ports[0].compress(images[1:2])
    np.testing.assert_allclose(
        together.tokens[1:2],
        alone.tokens,
        atol=1e-4,
    )
    np.testing.assert_allclose(
        together.embeddings[1:2],
        alone.embeddings,
        atol=1e-4,
    )


def test_what_is_served_is_what_was_trained(
    ports: tuple[SummaryModel, Generator],
    separate: SummaryLvlm,
    images: list[Image.Image],
) -> None:
    """Merged adapters must still be two: the first pass once ran under the second pass's."""
    trained = LvlmSummaryModel(separate, "0" * 32)
    expected, found = trained.compress(images), ports[0].compress(images)
    np.testing.assert_allclose(
        found.tokens,
        expected.tokens,
        atol=1e-3,
    )
    np.testing.assert_allclose(
        found.embeddings,
        expected.embeddings,
        atol=1e-3,
    )
    np.testing.assert_allclose(
        ports[0].embed_text(["a cat"]),
        trained.embed_text(["a cat"]),
        atol=1e-3,
    )
    question = "What is in the image?"
    told = answers(ports[1], found.tokens, question)
    assert told == answers(LvlmGenerator(separate), expected.tokens, question)
    with torch.inference_mode(), separate.adapters.use("second_pass"):
        inputs = separate.first_pass_inputs(images)
        switch, separate.adapters.use = (
            separate.adapters.use,
            lambda _: switch("second_pass"),
        )
        try:
            wrong = separate.first_pass(inputs).tokens.numpy()
        finally:
            del separate.adapters.use
    assert np.abs(wrong - expected.tokens).max() > 1e-2  # or this test could not tell


def test_the_first_pass_on_onnx_runtime_is_that_of_torch(
    ports: tuple[SummaryModel, Generator], images: list[Image.Image], folder: Path
) -> None:
    in_torch = ports[0]
    assert isinstance(in_torch, LvlmSummaryModel)
    # Kept beside the base, as `precis model build` keeps it.
    exported = export_first_pass(in_torch, folder, build.published_language_model)
    on_onnx = OnnxSummaryModel(exported, in_torch.fingerprint)
    texts = [text for _, text, _ in PHOTOGRAPHS]
    expected, computed = in_torch.compress(images), on_onnx.compress(images)
    worst = np.abs(computed.tokens - expected.tokens).max()
    assert worst < 1e-3 * expected.tokens.std()
    for ours, theirs in (
        (computed.embeddings, expected.embeddings),
        (on_onnx.embed_text(texts), in_torch.embed_text(texts)),
    ):
        np.testing.assert_allclose((ours * theirs).sum(1), 1, atol=1e-5)


def test_onnx_runtime_answers_as_torch_does(
    ports: tuple[SummaryModel, Generator], images: list[Image.Image], tmp_path: Path
) -> None:
    summary, in_torch = ports
    assert isinstance(in_torch, LvlmGenerator)
    folder = export(in_torch.model, summary.fingerprint, tmp_path)
    on_onnx = OnnxGenerator(
        PromptEmbedder.of(in_torch.model), folder, summary.fingerprint
    )
    tokens = summary.compress(images).tokens
    for question in ("What is in the picture?", "What colour is it?"):
        assert answers(on_onnx, tokens, question) == answers(in_torch, tokens, question)
