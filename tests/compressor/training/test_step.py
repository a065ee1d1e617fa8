from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from compressor.fwd2bot.adapters import AdapterName
from compressor.fwd2bot.baselines import BASELINES
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.batch import Batch
from compressor.training.config import TrainConfig
from compressor.training.distributed import SINGLE
from compressor.training.step import CaptionPairs, answer_loss, contrastive_loss
from tests.compressor.training.samples import sample, stepped

RECIPE = TrainConfig(batch_size=4)
BATCH = [sample(number) for number in range(4)]


def gradients(model: SummaryLvlm, part: str) -> list[torch.Tensor]:
    """Of the parameters with this in their name, those that have one."""
    named = [weight for name, weight in model.named_parameters() if part in name]
    return [weight.grad for weight in named if weight.grad is not None]


def all_gradients(model: SummaryLvlm) -> dict[str, torch.Tensor]:
    """By name, of what is trained."""
    gradients = {}
    for name, parameter in model.trained_parameters():
        if parameter.grad is not None:
            gradients[name] = parameter.grad.clone()
    return gradients


def optimizer_of(model: SummaryLvlm, part: str = "") -> torch.optim.AdamW:
    """Of the trained parameters with this in their name."""
    weights = [weight for name, weight in model.trained_parameters() if part in name]
    return torch.optim.AdamW(weights, lr=1e-2)


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
        of_part = gradients(model, part)
        assert len(of_part) == 14
        moved = [gradient for gradient in of_part if gradient.any()]
        assert len(moved) >= 13, part
    (summary,) = gradients(model, "embed_tokens.summary")
    assert summary.any()


def test_the_contrastive_loss_trains_the_first_pass_and_the_head_only(
    model: SummaryLvlm,
) -> None:
    given_a_start(model)
    stepped(model, BATCH, RECIPE).contrastive.backward()
    assert all(gradient.any() for gradient in gradients(model, "lora_B.first_pass"))
    assert not gradients(model, "second_pass")
    assert gradients(model, "head.logit_scale")[0].abs() > 0


def test_a_frozen_first_pass_gets_no_gradient_and_gives_the_same_losses(
    model: SummaryLvlm,
) -> None:
    given_a_start(model)
    whole = stepped(model, BATCH, RECIPE)
    frozen = stepped(model, BATCH, replace(RECIPE, first_pass_lr=0.0))
    torch.testing.assert_close(frozen.autoregressive, whole.autoregressive)
    torch.testing.assert_close(frozen.contrastive, whole.contrastive)
    (frozen.autoregressive + frozen.contrastive).backward()
    assert not gradients(model, "first_pass")
    assert gradients(model, "lora_B.second_pass")


def test_an_answer_about_several_images_trains_the_tokens_of_each(
    model: SummaryLvlm,
) -> None:
    images = tuple(each.images[0] for each in BATCH[:3])
    together = replace(BATCH[0], images=images, caption="")
    recipe = replace(RECIPE, contrastive_weight=0.0)
    batch = Batch.of(model, [together, BATCH[3]], recipe)
    assert batch.answered == [range(3), range(3, 4)]
    first = model.first_pass(batch.inputs)
    first.tokens.retain_grad()
    answer_loss(model, first, batch, recipe, 1.0).autoregressive.backward()
    assert first.tokens.grad is not None
    assert (first.tokens.grad.abs().sum((1, 2)) > 0).all()


def test_the_autoregressive_loss_is_that_of_the_answers_alone(
    model: SummaryLvlm,
) -> None:
    """One question an image, no packing: what a plain forward pass over prompt and answer gives."""
    recipe = replace(RECIPE, questions_per_image=1)
    loss = stepped(model, BATCH, recipe).autoregressive
    total, count = 0.0, 0
    images = [sample.images[0] for sample in BATCH]
    with torch.no_grad():
        tokens = model.first_pass(model.first_pass_inputs(images)).tokens
        for vectors, sample in zip(tokens, BATCH, strict=True):
            question = sample.questions[0]
            prompt = model.prompt_ids(1, [("user", question.question)])
            words = model.tokenizer(f" {question.answer}")["input_ids"]
            answer = [*words, model.end_ids[0]]
            embedded = model.with_images(prompt + answer[:-1], [vectors])
            with model.adapters.use("second_pass"):
                logits = model.base(inputs_embeds=embedded[None]).logits[0]
            predictions = logits[-len(answer) :].log_softmax(-1)
            for place, token in enumerate(answer):
                total -= float(predictions[place, token])
            count += len(answer)
    expected = torch.tensor(total / count)
    torch.testing.assert_close(loss.detach(), expected, atol=1e-4, rtol=1e-4)


def test_a_few_steps_lower_every_loss(model: SummaryLvlm) -> None:
    recipe = replace(RECIPE, contrastive_weight=1.0)
    optimiser = optimizer_of(model)
    answers = []
    pairs = []
    for _ in range(12):
        losses = stepped(model, BATCH, recipe)
        answers.append(losses.autoregressive.item())
        pairs.append(losses.contrastive.item())
        optimiser.zero_grad()
        losses.total(recipe).backward()
        optimiser.step()
    assert answers[-1] < 0.8 * answers[0]
    assert pairs[-1] < 0.8 * pairs[0]


def test_captions_that_read_alike_are_no_negatives(model: SummaryLvlm) -> None:
    """With equal captions nothing is left to tell apart, however they are spelled."""
    for captions in (["a dog", "a dog"], ["a dog", "A  DOG."]):
        vectors = torch.eye(2)
        pairs = CaptionPairs(vectors, vectors, captions)
        assert contrastive_loss(model, pairs, SINGLE).item() == pytest.approx(0)


def test_long_captions_are_shortened(model: SummaryLvlm) -> None:
    more = " and on and on" * 300
    long = [replace(sample, caption=sample.caption + more) for sample in BATCH]
    assert torch.isfinite(stepped(model, long, RECIPE).contrastive)


def test_recomputed_activations_give_the_same_gradients(model: SummaryLvlm) -> None:
    """Also where the other adapter, or none, is in use by the time of the backward pass."""
    given_a_start(model)

    def gradients_under(adapter: AdapterName | None) -> dict[str, torch.Tensor]:
        model.zero_grad()
        total = stepped(model, BATCH, RECIPE).total(RECIPE)
        with model.adapters.use(adapter):
            total.backward()
        return all_gradients(model)

    kept = gradients_under("second_pass")
    ran = []

    def record(*_: object) -> None:
        ran.append(model.adapters.active)

    model.adapters.checkpoint_activations(model.base)
    modules = model.base.get_decoder().modules()
    layer = next(
        module for module in modules if isinstance(module, GradientCheckpointingLayer)
    )
    hook = layer.input_layernorm.register_forward_hook(record)
    for adapter in ("first_pass", "second_pass", None):
        recomputed = gradients_under(adapter)
        assert set(recomputed) == set(kept)
        for name, gradient in kept.items():
            torch.testing.assert_close(recomputed[name], gradient, atol=1e-6, rtol=1e-4)
    hook.remove()
    # Images, captions and answers of three steps, and all of them again in the backward passes.
    assert sorted(map(str, ran)) == sorted(
        3 * 2 * ["first_pass", "first_pass", "second_pass"]
    )


@pytest.mark.parametrize("reads", BASELINES)
def test_the_second_pass_can_be_trained_on_a_baseline(
    model: SummaryLvlm, reads: str
) -> None:
    recipe = replace(
        RECIPE, second_pass_input=reads, first_pass_lr=0.0, contrastive_weight=0.0
    )
    optimiser = optimizer_of(model, "second_pass")
    history = []
    for _ in range(8):
        losses = stepped(model, BATCH, recipe)
        history.append(losses.autoregressive.item())
        optimiser.zero_grad()
        losses.total(recipe).backward()
        optimiser.step()
    assert history[-1] < 0.8 * history[0]
    assert not gradients(model, "first_pass")
    assert not any(
        gradient.any() for gradient in gradients(model, "embed_tokens.summary")
    )
