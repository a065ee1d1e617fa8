from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.model import FirstPass, SummaryLvlm
from compressor.training.config import TrainConfig
from compressor.training.packing import pack
from compressor.training.step import (
    answer_loss,
    distillation_loss,
    teacher_logits,
)
from tests.compressor.training.samples import ready, sample, stepped

RECIPE = TrainConfig(batch_size=4, distillation_weight=1.0)
BATCH = [sample(number) for number in range(4)]


def test_the_loss_is_the_divergence_from_the_teacher() -> None:
    draw = torch.Generator().manual_seed(1)
    student = torch.randn(3, 7, generator=draw)
    teacher = torch.randn(3, 7, generator=draw)
    wanted, given = teacher.softmax(-1), student.softmax(-1)
    expected = (wanted * (wanted / given).log()).sum() / 5
    torch.testing.assert_close(distillation_loss(student, teacher, 5.0), expected)
    assert distillation_loss(teacher, teacher, 5.0).abs() < 1e-6


def test_a_student_that_reads_what_the_teacher_reads_has_no_loss(
    model: SummaryLvlm,
) -> None:
    """Untrained adapters over all visual tokens are the teacher itself."""
    (batch,) = ready(model, BATCH, RECIPE)
    vectors = torch.stack(model.visual_vectors([sample.images[0] for sample in BATCH]))
    first = FirstPass(vectors, None, None)
    losses = answer_loss(model, first, batch, RECIPE, float(batch.answer_tokens))
    assert losses.distillation.abs() < 1e-5
    assert losses.autoregressive > 1


def test_predicted_tokens_are_in_the_order_of_the_images(model: SummaryLvlm) -> None:
    """Whatever rows the images were packed into, by the number of their vectors."""
    (batch,) = ready(model, BATCH, RECIPE)
    expected = []
    for image in batch.tokenized:
        expected += [label for label in image.labels if label >= 0]
    for counts in ((1, 9, 3, 5), (8, 2, 2, 8)):
        vectors = [[torch.zeros(count, model.hidden_size)] for count in counts]
        packed = pack(model, vectors, batch.tokenized)
        labels = packed.labels[packed.predicts][packed.sample_order]
        assert labels.tolist() == expected


def test_the_teacher_is_the_base_model_without_adapters(model: SummaryLvlm) -> None:
    (batch,) = ready(model, BATCH, RECIPE)
    before = teacher_logits(model, batch, RECIPE)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    after = teacher_logits(model, batch, RECIPE)
    torch.testing.assert_close(after, before)
    assert not after.requires_grad


def test_micro_batches_give_the_loss_of_the_whole_batch(model: SummaryLvlm) -> None:
    recipe = replace(RECIPE, contrastive_weight=0.0)
    whole = stepped(model, BATCH, recipe).distillation
    (one, other) = ready(model, BATCH, recipe, size=2)
    total = torch.zeros(())
    count = float(one.answer_tokens + other.answer_tokens)
    for batch in (one, other):
        first = model.first_pass(batch.inputs)
        total += answer_loss(model, first, batch, recipe, count).distillation.detach()
    torch.testing.assert_close(total, whole.detach(), atol=1e-5, rtol=1e-4)


def test_the_teacher_reads_samples_of_one_image_alone(model: SummaryLvlm) -> None:
    """Few LVLMs have seen several images together."""
    together = replace(
        BATCH[1], images=(*BATCH[1].images, *BATCH[2].images), caption=""
    )
    recipe = replace(RECIPE, contrastive_weight=0.0)
    (batch,) = ready(model, [BATCH[0], together, BATCH[3]], recipe)
    assert batch.taught == [0, 2]
    first = model.first_pass(batch.inputs)
    losses = answer_loss(model, first, batch, recipe, 1.0)
    (alone,) = ready(model, [BATCH[0], BATCH[3]], recipe)
    first = model.first_pass(alone.inputs)
    expected = answer_loss(model, first, alone, recipe, 1.0)
    torch.testing.assert_close(losses.distillation, expected.distillation)
    assert losses.autoregressive > expected.autoregressive


def test_samples_of_several_images_alone_have_no_teacher(model: SummaryLvlm) -> None:
    images = (*BATCH[1].images, *BATCH[2].images)
    together = replace(BATCH[1], images=images, caption="")
    recipe = replace(RECIPE, contrastive_weight=0.0)
    losses = stepped(model, [together], recipe)
    assert losses.distillation == 0
    losses.total(recipe).backward()


def test_a_baseline_has_no_teacher() -> None:
    with pytest.raises(RecipeInvalid, match="distillation_weight must be 0"):
        TrainConfig(
            second_pass_input="mean pooling",
            first_pass_lr=0.0,
            contrastive_weight=0.0,
            distillation_weight=1.0,
        )
