"""TODO."""

from __future__ import annotations

import pytest
import torch
from peft.tuners.lora import LoraLayer

from compressor.fwd2bot.adapters import ADAPTERS
from compressor.fwd2bot.model import SummaryLvlm
from tests.compressor.tiny import trained


def logits(model: SummaryLvlm) -> torch.Tensor:
    """Under whatever adapter is on."""
    embeddings = torch.randn(
        1, 5, model.hidden_size, generator=torch.Generator().manual_seed(2)
    )
    return model.base(inputs_embeds=embeddings).logits


def of_adapter(model: SummaryLvlm, name: str) -> dict[str, torch.nn.Parameter]:
    return {
        key: parameter
        for key, parameter in model.named_parameters()
        if f".{name}." in key
    }


def test_all_linear_layers_of_the_language_model_and_nothing_else_have_adapters(
    model: SummaryLvlm,
) -> None:
    adapted = {
        name
        for name, module in model.base.named_modules()
        if isinstance(module, LoraLayer)
    }
    assert (
        len(adapted) == 2 * 7
    )  # 2 layers of query, key, value, output, gate, up, down
    assert all("language_model" in name for name in adapted)


def test_untrained_adapters_change_nothing(model: SummaryLvlm) -> None:
    with torch.no_grad(), model.adapters.use(None):
        base = logits(model)
    for name in ADAPTERS:
        with torch.no_grad(), model.adapters.use(name):
            torch.testing.assert_close(logits(model), base)


def test_each_adapter_has_its_own_effect(frozen_model: SummaryLvlm) -> None:
    found = []
    for name in (None, *ADAPTERS):
        with torch.no_grad(), frozen_model.adapters.use(name):
            found.append(logits(frozen_model))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(found[one], found[other], atol=1e-2)


def test_switching_does_not_freeze_and_both_train_in_one_step(
    model: SummaryLvlm,
) -> None:
    trained(model)
    with model.adapters.use("first_pass"):
        first = logits(model)
    with model.adapters.use("second_pass"):
        second = logits(model)
    assert all(
        p.requires_grad for name in ADAPTERS for p in of_adapter(model, name).values()
    )
    (first.square().mean() + second.square().mean()).backward()
    for name in ADAPTERS:
        assert all(
            p.grad is not None and p.grad.abs().sum() > 0
            for p in of_adapter(model, name).values()
        )


def test_only_what_ran_inside_gets_gradients(model: SummaryLvlm) -> None:
    with model.adapters.use("second_pass"):
        logits(trained(model)).square().mean().backward()
    assert all(p.grad is None for p in of_adapter(model, "first_pass").values())


def test_the_base_model_is_frozen(model: SummaryLvlm) -> None:
    kinds = {"lora_A", "lora_B", "embed_tokens.summary", "readout.", "head."}
    assert all(
        any(kind in name for kind in kinds) for name, _ in model.trained_parameters()
    )


def test_use_nests_and_restores_on_error(model: SummaryLvlm) -> None:
    def active() -> set[tuple[str, ...]]:
        layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
        return {tuple(layer.active_adapters) for layer in layers}

    before = active()
    with model.adapters.use("first_pass"):
        assert active() == {("first_pass",)}
        with model.adapters.use("second_pass"), model.adapters.use(None):
            assert active() == {()}
        assert active() == {("first_pass",)}
        with (
            pytest.raises(RuntimeError, match="inside"),
            model.adapters.use("second_pass"),
        ):
            raise RuntimeError("inside")
        assert active() == {("first_pass",)}
    assert active() == before
