"""One double-forward step: first pass, contrastive loss, second pass over its tokens,
autoregressive loss.

Knows nothing of optimisers or files. The gradient of the answers flows through the summary tokens
into the first pass. Where several processes train together, each looks at its part of the batch,
and the mean of their gradients is that of one process with the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.default_model.data.photos import Photo
from compressor.default_model.training.word_supervision import Target, targets
from compressor.fwd2bot.baselines import SUMMARY, baseline_tokens
from compressor.fwd2bot.model import FirstPass, SummaryLvlm
from compressor.training.config import Recipe
from compressor.training.distributed import Alone, Processes
from compressor.training.packing import answer_ids, budgets_of, drawn, pack
from compressor.training.sample import Sample

# The losses of a double-forward step.
#  Shapes: B batch, K summary tokens, E embedding size, W words.


def contrastive(images: Tensor, texts: Tensor, log_scale: Tensor, same: Tensor) -> Tensor:
    """Symmetric InfoNCE over (B, E) embeddings of length 1 (Fwd2Bot, after the first pass; CLIP,
    arXiv 2103.00020).

    `same` (B, B) marks pairs whose captions are equal: no negatives of each other.
    """
    scores = images @ texts.T * log_scale.exp().clamp(max=100)
    others = same & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(others, torch.finfo(scores.dtype).min)
    right = torch.arange(len(scores), device=scores.device)
    return (
        nn.functional.cross_entropy(scores, right) + nn.functional.cross_entropy(scores.T, right)
    ) / 2


def words(
    logits: Tensor, targets: Sequence[Sequence[Target]], weight: float | None = None
) -> Tensor:
    """Cross entropy of (B, K, W) logits at the summary positions against the words known of each image.

    `weight` is what the sum is divided by: that of the targets, where they are all there are.
    """
    flat = [(row, each) for row, found in enumerate(targets) for each in found]
    if not flat:
        return logits.sum() * 0
    rows = torch.tensor([row for row, _ in flat], device=logits.device)
    positions = torch.tensor([each.position for _, each in flat], device=logits.device)
    ids = torch.tensor([each.token_id for _, each in flat], device=logits.device)
    weights = torch.tensor([each.weight for _, each in flat], device=logits.device)
    likelihoods = logits.float().log_softmax(-1)[rows, positions, ids]
    return -(weights * likelihoods).sum() / (weights.sum() if weight is None else weight)


def autoregressive(logits: Tensor, labels: Tensor, count: float | None = None) -> Tensor:
    """Cross entropy of (N, W) logits against (N,) next tokens of answers (Fwd2Bot, after the second
    pass).

    The sum is divided by `count`: N, where these tokens are all there are.
    """
    return nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / (
        count or max(1, len(labels))
    )


@dataclass(frozen=True)
class StepLosses:
    """Losses of one step, unweighted. Of several processes: their mean is the batch's."""

    autoregressive: Tensor
    contrastive: Tensor
    words: Tensor

    def total(self, recipe: Recipe) -> Tensor:
        """What is minimised."""
        return (
            self.autoregressive
            + recipe.contrastive_weight * self.contrastive
            + recipe.words_weight * self.words
        )


@dataclass(frozen=True)
class Shares:
    """What the losses of the whole batch are divided by, for each of the processes."""

    answer_tokens: float
    word_weight: float


@dataclass(frozen=True)
class Captions:
    """Embeddings of images and of the captions about them, pairwise."""

    images: Tensor  # (N, E)
    texts: Tensor  # (N, E)
    said: list[str]  # of N images


def double_forward(
    model: SummaryLvlm,
    samples: Sequence[Sample],
    recipe: Recipe,
    caption_words: frozenset[str],
    processes: Processes | None = None,
) -> StepLosses:
    """Both passes over this process's samples."""
    processes = processes or Alone()
    first = first_pass(model, samples, recipe)
    contrastive = first.tokens.new_zeros(())
    if recipe.contrastive_weight:
        contrastive = contrastive_loss(model, captions(model, samples, first, recipe), processes)
    shares = shares_of(model, samples, recipe, caption_words, processes)
    autoregressive, words = answer_losses(model, samples, first, recipe, caption_words, shares)
    return StepLosses(autoregressive, contrastive, words)


def first_pass(model: SummaryLvlm, samples: Sequence[Sample], recipe: Recipe) -> FirstPass:
    """The first pass over the samples' images; its tokens are a baseline's where that is what is read."""
    hidden = [getattr(sample, "hidden_names", frozenset()) for sample in samples]
    folds = [sample.origin.fold if isinstance(sample.origin, Photo) else None for sample in samples]
    knows = any(hidden) or getattr(
        model.base, "caption_folds", ()
    )  # a projector that has learnt from these samples
    with model.base.as_if_unseen(hidden, folds) if knows else nullcontext():
        return _first_pass(model, samples, recipe)


def _first_pass(model: SummaryLvlm, samples: Sequence[Sample], recipe: Recipe) -> FirstPass:
    if recipe.reads != SUMMARY:
        with torch.no_grad():
            tokens = torch.stack(
                baseline_tokens(model, [sample.image for sample in samples], recipe.reads)
            ).float()
        return FirstPass(tokens, tokens[:0], None)
    with torch.no_grad():
        inputs = model.first_pass_inputs([sample.image for sample in samples])
    return model.first_pass(inputs, frozen=recipe.first_pass_rate == 0)


def captions(
    model: SummaryLvlm, samples: Sequence[Sample], first: FirstPass, recipe: Recipe
) -> Captions:
    """Embeddings of the samples that have a caption."""
    rows = [row for row, sample in enumerate(samples) if sample.caption]
    said = [_shortened(model, samples[row].caption, recipe.longest_caption_tokens) for row in rows]
    images = model.head.embed_image(first.image_states[rows])
    with torch.set_grad_enabled(torch.is_grad_enabled() and recipe.first_pass_rate > 0):
        # Without a caption the model runs all the same: where it is shared out, others wait for
        # this process's part.
        states = model.text_states(said or ["-"])[: len(said)]
    return Captions(images, model.head.embed_text(states), said)


def contrastive_loss(model: SummaryLvlm, found: Captions, processes: Processes) -> Tensor:
    """Symmetric InfoNCE over the captions of all processes: negatives grow with their number."""
    images, texts, said = (
        processes.gathered(found.images),
        processes.gathered(found.texts),
        processes.all_of(found.said),
    )
    if len(said) < 2:
        return images.sum() * 0
    same = torch.tensor([[one == other for other in said] for one in said], device=images.device)
    return contrastive(images, texts, model.head.log_scale, same)


def shares_of(
    model: SummaryLvlm,
    samples: Sequence[Sample],
    recipe: Recipe,
    caption_words: frozenset[str],
    processes: Processes,
) -> Shares:
    """Counts what the losses of the samples of all processes are means over."""
    opened = model.prompt_ends_open()
    here = sum(
        len(answer_ids(model, opened, answer))
        for pairs in _asked(samples, recipe)
        for _, answer in pairs
    )
    weight = 0.0
    if recipe.words_weight:
        weight = sum(
            each.weight for found in _targets(model, samples, caption_words) for each in found
        )
    counted = processes.all_of([(here, weight)])
    answers, weights = (sum(column) / processes.count for column in zip(*counted, strict=True))
    return Shares(float(answers), float(weights))


def answer_losses(
    model: SummaryLvlm,
    samples: Sequence[Sample],
    first: FirstPass,
    recipe: Recipe,
    caption_words: frozenset[str],
    shares: Shares,
) -> tuple[Tensor, Tensor]:
    """Autoregressive loss of the answers, and cross entropy of the soft words."""
    words = first.tokens.new_zeros(())
    if recipe.words_weight and first.logits is not None and shares.word_weight:
        words = words(first.logits, _targets(model, samples, caption_words), shares.word_weight)
    packed = pack(
        model,
        drawn(first.tokens, budgets_of(recipe, model.config.token_count)),
        _asked(samples, recipe),
    )
    with model.adapters.use("second_pass"):
        hidden = model.base.base_model(
            inputs_embeds=packed.embeddings,
            attention_mask=packed.mask,
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state
        answering = packed.labels != -100
        logits = model.base.get_output_embeddings()(hidden[answering])
    return autoregressive(logits, packed.labels[answering], shares.answer_tokens), words


def _asked(samples: Sequence[Sample], recipe: Recipe) -> list[list[tuple[str, str]]]:
    return [
        [(qa.question, qa.answer) for qa in sample.questions[: recipe.questions_per_image]]
        for sample in samples
    ]


def _targets(
    model: SummaryLvlm, samples: Sequence[Sample], caption_words: frozenset[str]
) -> list[list[Target]]:
    return [targets(sample, model.tokenizer, caption_words) for sample in samples]


def _shortened(model: SummaryLvlm, caption: str, longest: int) -> str:
    ids = model.tokenizer(caption, add_special_tokens=False)["input_ids"]
    return caption if len(ids) <= longest else str(model.tokenizer.decode(ids[:longest]))
