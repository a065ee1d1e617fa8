from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from compressor.fwd2bot.adapters import AdapterName
from compressor.fwd2bot.baselines import BASELINES
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.config import TrainConfig
from tests.compressor.training.samples import sample, stepped

RECIPE = TrainConfig(batch_size=4)
BATCH = [sample(number) for number in range(4)]


def gradients(model: SummaryLvlm, part: str) -> list[torch.Tensor]:
    return [p.grad for n, p in model.named_parameters() if part in n and p.grad is not None]


def given_a_start(model: SummaryLvlm) -> None:
    """LoRA's B is zero at the start, which keeps gradients from its A."""
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)


def test_the_answers_alone_train_both_passes(model: SummaryLvlm) -> None:
    given_a_start(model)
    stepped(model, BATCH, RECIPE).total(RECIPE).backward()
    for part in (
        "lora_A.first_pass",
        "lora_B.first_pass",
        "lora_A.second_pass",
        "lora_B.second_pass",
    ):
        found = gradients(model, part)
        assert len(found) == 14
        assert sum(float(each.abs().sum()) > 0 for each in found) >= 13, part
    assert gradients(model, "embed_tokens.summary")[0].abs().sum() > 0


def test_the_contrastive_loss_trains_the_first_pass_and_the_head_only(model: SummaryLvlm) -> None:
    given_a_start(model)
    stepped(model, BATCH, RECIPE).contrastive.backward()
    assert all(each.abs().sum() > 0 for each in gradients(model, "lora_B.first_pass"))
    assert not gradients(model, "second_pass")
    assert gradients(model, "head.logit_scale")[0].abs() > 0


def test_a_frozen_first_pass_gets_no_gradient_and_gives_the_same_losses(model: SummaryLvlm) -> None:
    given_a_start(model)
    whole = stepped(model, BATCH, RECIPE)
    frozen = stepped(model, BATCH, replace(RECIPE, first_pass_lr=0.0))
    torch.testing.assert_close(frozen.autoregressive, whole.autoregressive)
    torch.testing.assert_close(frozen.contrastive, whole.contrastive)
    (frozen.autoregressive + frozen.contrastive).backward()
    assert not gradients(model, "first_pass")
    assert gradients(model, "lora_B.second_pass")


def test_the_autoregressive_loss_is_that_of_the_answers_alone(model: SummaryLvlm) -> None:
    """One question an image, no packing: what a plain forward pass over prompt and answer gives."""
    recipe = replace(RECIPE, questions_per_image=1)
    found = stepped(model, BATCH, recipe).autoregressive
    losses, count = 0.0, 0
    with torch.no_grad():
        tokens = model.first_pass(model.first_pass_inputs([each.image for each in BATCH])).tokens
        for vectors, each in zip(tokens, BATCH, strict=True):
            prompt = model.prompt_ids(1, [("user", each.questions[0].question)])
            answer = [
                *model.tokenizer(f" {each.questions[0].answer}")["input_ids"],
                model.end_ids[0],
            ]
            with model.adapters.use("second_pass"):
                logits = model.base(
                    inputs_embeds=model.with_images([*prompt, *answer[:-1]], [vectors])[None]
                ).logits[0]
            said = logits[-len(answer) :].log_softmax(-1)
            losses -= sum(float(said[place, token]) for place, token in enumerate(answer))
            count += len(answer)
    torch.testing.assert_close(found.detach(), torch.tensor(losses / count), atol=1e-4, rtol=1e-4)


def test_a_few_steps_lower_every_loss(model: SummaryLvlm) -> None:
    recipe = replace(RECIPE, contrastive_weight=1.0)
    optimiser = torch.optim.AdamW([p for _, p in model.trained_parameters()], lr=1e-2)
    history = []
    for _ in range(12):
        losses = stepped(model, BATCH, recipe)
        history.append(
            [float(loss.detach()) for loss in (losses.autoregressive, losses.contrastive)]
        )
        optimiser.zero_grad()
        losses.total(recipe).backward()
        optimiser.step()
    assert all(last < 0.8 * first for first, last in zip(history[0], history[-1], strict=True)), (
        history
    )


def test_long_captions_are_shortened(model: SummaryLvlm) -> None:
    long = [replace(each, caption=f"{each.caption} {'and on and on ' * 300}") for each in BATCH]
    assert torch.isfinite(stepped(model, long, RECIPE).contrastive)


def test_recomputed_activations_give_the_same_gradients(model: SummaryLvlm) -> None:
    """Also where the other adapter, or none, is in use by the time of the backward pass."""
    given_a_start(model)

    def found(adapter: AdapterName | None) -> dict[str, torch.Tensor]:
        model.zero_grad()
        total = stepped(model, BATCH, RECIPE).total(RECIPE)
        with model.adapters.use(adapter):
            total.backward()
        return {
            name: p.grad.clone() for name, p in model.trained_parameters() if p.grad is not None
        }

    kept = found("second_pass")
    ran = []
    model.adapters.checkpoint_activations(model.base)
    layer = next(
        each
        for each in model.base.get_decoder().modules()
        if isinstance(each, GradientCheckpointingLayer)
    )
    hook = layer.input_layernorm.register_forward_hook(lambda *_: ran.append(model.adapters.active))
    for adapter in ("first_pass", "second_pass", None):
        recomputed = found(adapter)
        assert set(recomputed) == set(kept)
        for name, gradient in kept.items():
            torch.testing.assert_close(recomputed[name], gradient, atol=1e-6, rtol=1e-4)
    hook.remove()
    # Images, captions and answers of three steps, and all of them again in the backward passes.
    assert sorted(map(str, ran)) == sorted(3 * 2 * ["first_pass", "first_pass", "second_pass"])


@pytest.mark.parametrize("reads", BASELINES)
def test_the_second_pass_can_be_trained_on_a_baseline(model: SummaryLvlm, reads: str) -> None:
    recipe = replace(RECIPE, second_pass_input=reads, first_pass_lr=0.0, contrastive_weight=0.0)
    optimiser = torch.optim.AdamW(
        [p for name, p in model.trained_parameters() if "second_pass" in name], lr=1e-2
    )
    history = []
    for _ in range(8):
        losses = stepped(model, BATCH, recipe)
        history.append(float(losses.autoregressive.detach()))
        optimiser.zero_grad()
        losses.total(recipe).backward()
        optimiser.step()
    assert history[-1] < 0.8 * history[0]
    assert not gradients(model, "first_pass")
    assert not any(float(each.abs().sum()) for each in gradients(model, "embed_tokens.summary"))
