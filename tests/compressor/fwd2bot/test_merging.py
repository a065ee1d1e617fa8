"""Merged adapters give what the two separate ones give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer

from compressor.default_model.build import WEIGHTS, build, load_default
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.generator import whole_answers
from compressor.fwd2bot.load import assemble
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import GenerationLimits, GenerationRequest, Turn
from service.settings import Settings
from tests.conformance.summary_model_suite import pictures
from tests.conformance.tiny_lvlm import tiny_lvlm


def trained(model: SummaryLvlm) -> None:
    """Gives both adapters weights as if they had been trained: each changes every layer, and
    differently.
    """
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)


def logits(model: SummaryLvlm, name: str) -> torch.Tensor:
    embeddings = torch.randn(
        2, 7, model.hidden_size, generator=torch.Generator().manual_seed(2)
    )
    with torch.inference_mode(), model.adapters.use(name):
        return model.base(inputs_embeds=embeddings).logits


def test_each_pass_gives_the_same_logits() -> None:
    model = tiny_lvlm()[0]._model
    trained(model)
    before = {name: logits(model, name) for name in ("first_pass", "second_pass")}
    assert not torch.allclose(before["first_pass"], before["second_pass"], atol=0.1)
    model.merge_adapters()
    for name, expected in before.items():
        torch.testing.assert_close(logits(model, name), expected, atol=1e-4, rtol=1e-4)


def test_tokens_embeddings_and_answers_stay() -> None:
    summary_model, generator = tiny_lvlm()
    trained(summary_model._model)
    requests = [
        GenerationRequest([tokens], [Turn("user", "what is in the image ?")])
        for tokens in summary_model.compress(pictures()).tokens
    ]

    def outputs() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        summary = summary_model.compress(pictures())
        pieces = list(
            generator.generate(
                requests, [GenerationLimits(max_tokens=6)] * len(requests)
            )
        )
        answers = [
            "".join(piece.text for piece in pieces if piece.request == n)
            for n in range(len(requests))
        ]
        return (
            summary.tokens,
            summary.embeddings,
            summary_model.embed_text(["what is a word3"]),
            answers,
        )

    before = outputs()
    summary_model._model.merge_adapters()
    after = outputs()
    for expected, found in zip(before[:3], after[:3], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert before[3] == after[3]
    assert any(before[3])


def test_no_separate_adapter_is_left() -> None:
    model = tiny_lvlm()[0]._model
    model.merge_adapters()
    assert not any(isinstance(module, LoraLayer) for module in model.modules())
    assert not any("lora_" in name for name in model.state_dict())


def test_merging_twice_is_refused() -> None:
    """Layers listen to the first switch only: a second would take the first pass its adapter."""
    model = tiny_lvlm()[0]._model
    model.merge_adapters()
    with pytest.raises(ValueError, match="merged already"):
        model.merge_adapters()


def test_a_deferred_merge_waits_for_the_first_pass_that_runs_here() -> None:
    summary_model, generator = tiny_lvlm()
    model = summary_model.model
    trained(model)
    expected = summary_model.compress(pictures())
    weight = next(
        module.get_base_layer().weight
        for module in model.modules()
        if isinstance(module, LoraLayer)
    )
    before = weight.clone()
    model.merge_adapters_on_use()
    assert torch.equal(weight, before)
    found = summary_model.compress(pictures())
    np.testing.assert_allclose(found.tokens, expected.tokens, atol=1e-4)
    assert not any(isinstance(module, LoraLayer) for module in model.modules())
    assert not torch.equal(weight, before)
    # The second pass needs no other merge.
    request = GenerationRequest([found.tokens[0]], [Turn("user", "what ?")])
    assert whole_answers(generator, [request], [GenerationLimits(max_tokens=2)])
    assert not any(each.is_inference() for each in model.state_dict().values())


@pytest.mark.model
def test_the_default_model_is_served_with_its_first_pass_adapter() -> None:
    folder = Settings().model_dir
    apart = assemble(build(folder), SummaryConfig.load(WEIGHTS))
    adapter_folder.load(apart, WEIGHTS)
    expected = LvlmSummaryModel(apart.eval(), "0" * 32).compress(pictures())
    found = load_default(folder)[0].compress(pictures())
    np.testing.assert_allclose(found.tokens, expected.tokens, atol=1e-4)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-4)
    for name, weights in apart.named_parameters():
        if "lora_B.first_pass" in name:
            weights.data.zero_()
    without = LvlmSummaryModel(apart, "0" * 32).compress(pictures())
    assert (
        np.abs(without.tokens - expected.tokens).max() > 1e-3
    )  # so that the comparison above can fail


def test_passes_may_be_used_inside_one_another() -> None:
    model = tiny_lvlm()[0]._model
    model.merge_adapters()
    with model.adapters.use("first_pass"):
        with model.adapters.use("second_pass"):
            assert not model.adapters.first_pass
        assert model.adapters.first_pass
    assert not model.adapters.first_pass
