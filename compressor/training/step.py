"""One double-forward step of Fwd2Bot (arXiv 2503.21757, section 3): two passes, two losses.

The answers' gradient flows through the summary tokens into the first pass. With several ranks each
runs its shard of the batch, and the mean of their gradients is that of one process with the whole
batch.
Shapes: I images of B samples, K summary tokens, D hidden size, C channels, N captions, E embedding
size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

import torch
from torch import Tensor, nn

from compressor.errors import BaselineUnavailable
from compressor.fwd2bot.baselines import (
    BASELINES,
    SUMMARY_TOKENS,
    Baseline,
    all_visual_tokens,
)
from compressor.fwd2bot.config import ForwardKind
from compressor.fwd2bot.model import FirstPass, SummaryLvlm
from compressor.fwd2bot.placement import Placement
from compressor.text import normalise_text
from compressor.training.batch import Batch
from compressor.training.config import TrainConfig
from compressor.training.distributed import SINGLE, Distributed
from compressor.training.frozen_tower import seen_once
from compressor.training.negative_queue import NegativeQueue, caption_keys
from compressor.training.packing import (
    NO_LABEL,
    TokenizedSample,
    draw_budgets,
    nested_budgets,
    pack,
    pack_behind_states,
)


@dataclass(frozen=True)
class StepLosses:
    """Losses of one step, unweighted. Their mean over ranks is the batch's."""

    autoregressive: Tensor
    distillation: Tensor
    contrastive: Tensor
    tokens: int = 0  # that this rank's second pass read
    places: int = 0  # tokens and padding

    def total(self, config: TrainConfig) -> Tensor:
        """What is minimised."""
        return (
            config.autoregressive_weight * self.autoregressive
            + config.distillation_weight * self.distillation
            + config.contrastive_weight * self.contrastive
        )

    def detach(self) -> StepLosses:
        """The same numbers without their graph."""
        return StepLosses(
            self.autoregressive.detach(),
            self.distillation.detach(),
            self.contrastive.detach(),
            self.tokens,
            self.places,
        )


@dataclass(frozen=True)
class CaptionPairs:
    """Embeddings of images and of their captions."""

    images: Tensor  # (N, E)
    texts: Tensor  # (N, E)
    captions: list[str]  # N


@dataclass(frozen=True)
class AnswerLoss:
    """Losses of the answers, and how much the second pass read for them."""

    autoregressive: Tensor
    distillation: Tensor
    tokens: int = 0
    places: int = 0  # tokens and padding


def double_forward(
    model: SummaryLvlm,
    batch: Batch,
    config: TrainConfig,
    world: Distributed = SINGLE,
    queue: NegativeQueue | None = None,
) -> StepLosses:
    """Both passes over this rank's shard of the batch; the queue takes up its pairs."""
    with seen_once(model):
        return _double_forward(model, batch, config, world, queue)


def _double_forward(
    model: SummaryLvlm,
    batch: Batch,
    config: TrainConfig,
    world: Distributed,
    queue: NegativeQueue | None,
) -> StepLosses:
    # First pass: image and summary prompt → K summary tokens, under the first adapter.
    first = first_pass(model, batch, config)

    # Contrastive: summary hidden states against captions, negatives from all ranks.
    contrastive = first.tokens.new_zeros(())
    if config.contrastive_weight:
        pairs = embed_captions(model, batch, first, config)
        contrastive = contrastive_loss(model, pairs, world, queue)

    # Second pass: the same LLM under the second adapter reads the tokens in place of the image.
    # The tokens keep their graph: the answers' gradient trains the first pass too.
    normalizer = loss_normalizer([batch], world)
    answers = answer_loss(model, first, batch, config, normalizer)

    return StepLosses(
        answers.autoregressive,
        answers.distillation,
        contrastive,
        answers.tokens,
        answers.places,
    )


def first_pass(
    model: SummaryLvlm,
    batch: Batch,
    config: TrainConfig,
) -> FirstPass:
    """Summary tokens of the I images, or what a baseline puts in their place."""
    with precision(model, config):
        if config.second_pass_input != SUMMARY_TOKENS:
            return _baseline(model, batch, config)
        inputs = {}
        for name, value in batch.inputs.items():
            # From page-locked memory: the copy overlaps with what the GPU still computes.
            inputs[name] = value.to(model.device, non_blocking=True)
        return model.first_pass(inputs, frozen=config.first_pass_lr == 0)


def _baseline(model: SummaryLvlm, batch: Batch, config: TrainConfig) -> FirstPass:
    """What a baseline puts in the summary tokens' place."""
    # Only a base model that is being tuned learns through its visual tokens.
    gradients = torch.is_grad_enabled() and config.base_lr > 0
    with torch.set_grad_enabled(gradients):
        if batch.visual is not None:
            rows = all_visual_tokens(model, batch.visual)
        else:
            images = [image for each in batch.samples for image in each.images]
            rows = BASELINES[Baseline(config.second_pass_input)](model, images)
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise BaselineUnavailable(
            f"{config.second_pass_input} have other lengths for other images: "
            "train them with micro_batch_size = 1"
        )
    return FirstPass(torch.stack(rows).float(), hidden_states=None, logits=None)


def precision(model: SummaryLvlm, config: TrainConfig) -> torch.autocast:
    """The dtype of the LVLM's forward passes, under which what is trained stays in float32.

    The losses and the retrieval head are outside: InfoNCE over large batches needs the digits.
    """
    dtype = forward_dtype(config.dtype, model.device)
    return torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32)


@cache
def forward_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a recipe's `dtype` on a device. Raises DeviceUnavailable."""
    _, dtype = Placement(str(device), name).resolve(training=True)
    return dtype


def embed_captions(
    model: SummaryLvlm, batch: Batch, first: FirstPass, config: TrainConfig
) -> CaptionPairs:
    """Embeddings of the samples that have a caption."""
    assert first.hidden_states is not None, (
        "TrainConfig refuses a contrastive loss on a baseline"
    )
    images = model.head.embed_image(
        first.hidden_states[batch.captioned], first.tokens[batch.captioned]
    )
    trains_first_pass = config.first_pass_lr > 0
    with (
        precision(model, config),
        torch.set_grad_enabled(torch.is_grad_enabled() and trains_first_pass),
    ):
        # A rank without captions runs the model all the same: with FSDP the other ranks wait for
        # its part of every layer.
        states = model.text_states(batch.captions or ["-"])[: len(batch.captions)]
    return CaptionPairs(images, model.head.embed_text(states), batch.captions)


def contrastive_loss(
    model: SummaryLvlm,
    pairs: CaptionPairs,
    world: Distributed,
    queue: NegativeQueue | None = None,
) -> Tensor:
    """Symmetric InfoNCE over the captions of all ranks: the number of negatives grows with them.

    The pairs of the queue are negatives too; these pairs enter it.
    """
    images = world.all_gather(pairs.images)
    texts = world.all_gather(pairs.texts)
    captions = world.all_gather_object(pairs.captions)
    if len(captions) < 2:
        # There is nothing to tell apart. The log calls this no loss, not one of 0.
        return images.sum() * 0
    # An image is no negative of a caption that the model reads as its own.
    keys = caption_keys([normalise_text(caption) for caption in captions]).to(
        images.device
    )
    same = keys.unsqueeze(0) == keys.unsqueeze(1)
    if queue is None:
        return info_nce(images, texts, model.head.logit_scale, same)
    earlier = queue.pairs()
    same_earlier = keys.unsqueeze(1) == earlier.keys.unsqueeze(0)
    loss = info_nce(
        images,
        texts,
        model.head.logit_scale,
        same,
        earlier=Earlier(earlier.images, earlier.texts, same_earlier),
    )
    queue.push(images.detach(), texts.detach(), keys)
    return loss


@dataclass(frozen=True)
class Earlier:
    """Pairs of earlier steps, negatives of all pairs of this one."""

    images: Tensor  # (Q, E)
    texts: Tensor  # (Q, E)
    same: Tensor  # (N, Q) true where the captions are equal, which makes them no negatives


def info_nce(
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    same: Tensor | None = None,
    earlier: Earlier | None = None,
) -> Tensor:
    """Symmetric InfoNCE over (N, E) embeddings of length 1 (CLIP, arXiv 2103.00020, figure 3).

    `same` (N, N) marks pairs that are no negatives of each other: their captions are equal.
    """
    # CLIP, section 2.5: the inverse temperature is clipped at 100, or training becomes unstable.
    scale = logit_scale.exp().clamp(max=100)
    scores = images @ texts.T * scale
    impossible = torch.finfo(scores.dtype).min
    if same is not None:
        diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(same & ~diagonal, impossible)
    to_texts, to_images = scores, scores.T
    if earlier is not None:
        texts_before = images @ earlier.texts.T * scale
        images_before = texts @ earlier.images.T * scale
        texts_before = texts_before.masked_fill(earlier.same, impossible)
        images_before = images_before.masked_fill(earlier.same, impossible)
        to_texts = torch.cat([to_texts, texts_before], dim=1)
        to_images = torch.cat([to_images, images_before], dim=1)
    targets = torch.arange(len(scores), device=scores.device)
    image_to_text = nn.functional.cross_entropy(to_texts, targets)
    text_to_image = nn.functional.cross_entropy(to_images, targets)
    return (image_to_text + text_to_image) / 2


def loss_normalizer(batches: Sequence[Batch], world: Distributed) -> float:
    """The number of answer tokens that makes every rank's loss a part of one mean over the batch.

    A rank that divided by its own number of answer tokens would weigh the tokens of its short
    answers more than another rank's. Dividing by the mean count over ranks instead makes the mean
    of the ranks' gradients equal to the gradient of one process with the whole batch, however the
    answers' lengths fall.
    """
    return world.mean(sum(batch.answer_tokens for batch in batches))


def answer_loss(
    model: SummaryLvlm,
    first: FirstPass,
    batch: Batch,
    config: TrainConfig,
    normalizer: float,
) -> AnswerLoss:
    """The losses of the answers, after the second pass."""
    if not batch.answered:
        others_may_run = config.fsdp and config.autoregressive_weight > 0
        if not others_may_run:
            nothing = first.tokens.sum() * 0
            return AnswerLoss(nothing, nothing)
        # A rank without answers runs the model all the same, as it does without captions.
        nothing_asked = TokenizedSample([model.image_token_id], [0], [0], [NO_LABEL])
        batch = replace(batch, answered=[range(1)], tokenized=[nothing_asked])
    budgets = nested_budgets(config, model.config.token_count)
    asked_about = [image for images in batch.answered for image in images]
    drawn = draw_budgets(first.tokens[asked_about], budgets)
    vectors = _by_sample(drawn, batch.answered)
    in_layers = model.config.forward == ForwardKind.SINGLE
    packed = (pack_behind_states if in_layers else pack)(
        model, vectors, batch.tokenized
    )
    predicts = packed.predicts
    with precision(model, config):
        hidden = model.second_pass(packed.inputs)
        # Only where an answer is predicted: the logits of whole rows, vocabulary wide, would be the
        # largest tensor of the step.
        logits = model.output_head(hidden[predicts])
    autoregressive = next_token_loss(logits, packed.labels[predicts], normalizer)
    distillation = autoregressive.new_zeros(())
    if config.distillation_weight:
        order = packed.sample_order
        owners = packed.owners[predicts][order]
        is_taught = torch.isin(owners, owners.new_tensor(batch.taught))
        student = logits[order][is_taught]
        teacher = teacher_logits(model, batch, config)
        distillation = distillation_loss(student, teacher, normalizer)
    return AnswerLoss(
        autoregressive, distillation, packed.tokens, packed.labels.numel()
    )


def _by_sample(
    vectors: Sequence[Tensor], images: Sequence[range]
) -> list[Sequence[Tensor]]:
    """The vectors of consecutive images, those of each sample together."""
    left = iter(vectors)
    return [list(islice(left, len(own))) for own in images]


@torch.no_grad()
def teacher_logits(model: SummaryLvlm, batch: Batch, config: TrainConfig) -> Tensor:
    """(N, vocabulary) of the N tokens of the answers that the base model teaches, by sample.

    The teacher is the same model without adapters; it reads all visual tokens.
    """
    assert batch.visual is not None, "a Batch for distillation has all visual tokens"
    with precision(model, config), model.adapters.use(None):
        vectors = all_visual_tokens(model, batch.visual)
        # A rank that has none runs the model all the same: with FSDP the others wait.
        rows = batch.taught or [0]
        read = [[vectors[image] for image in batch.answered[row]] for row in rows]
        packed = pack(model, read, [batch.tokenized[row] for row in rows])
        hidden = model.decoder(**packed.inputs, use_cache=False).last_hidden_state
        logits: Tensor = model.output_head(hidden[packed.predicts])
    return logits[packed.sample_order] if batch.taught else logits[:0]


def distillation_loss(student: Tensor, teacher: Tensor, normalizer: float) -> Tensor:
    """Summed KL(teacher ‖ student) of (N, vocabulary) logits, over `normalizer`.

    Hinton et al. (arXiv 1503.02531) at temperature 1.
    """
    total = nn.functional.kl_div(
        student.float().log_softmax(-1),
        teacher.float().log_softmax(-1),
        reduction="sum",
        log_target=True,
    )
    return total / (normalizer or 1.0)


def next_token_loss(logits: Tensor, labels: Tensor, normalizer: float) -> Tensor:
    """Summed cross entropy of (N, vocabulary) logits against (N,) next tokens, over `normalizer`.

    −Σ log p(x_i | summary tokens, question, earlier answer): Fwd2Bot, section 3.
    """
    total = nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
    return total / (normalizer or 1.0)  # no answer on any rank: the sum is zero as well
