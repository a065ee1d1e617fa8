"""One double-forward step: first pass, contrastive loss, second pass over its tokens, autoregressive loss.

Knows nothing of optimisers or files. The gradient of the answers flows through the summary tokens into the first pass.
Where several processes train together, each looks at its part of the batch, and the mean of their gradients is that of
one process with the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.baselines import SUMMARY, baseline_tokens
from compressor.lvlm import FirstPass, SummaryLvlm
from compressor.training import losses
from compressor.training.budgets import budgets_of, drawn
from compressor.training.data.mixture import Sample
from compressor.training.data.photos import Photo
from compressor.training.packing import answer_ids, pack
from compressor.training.processes import Alone, Processes
from compressor.training.recipe import Recipe
from compressor.training.targets import Target, targets


@dataclass(frozen=True)
class StepLosses:
    """Losses of one step, unweighted. Of several processes: their mean is the batch's."""

    autoregressive: Tensor
    contrastive: Tensor
    words: Tensor

    def total(self, recipe: Recipe) -> Tensor:
        """What is minimised."""
        return self.autoregressive + recipe.contrastive_weight * self.contrastive + recipe.words_weight * self.words


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
    hidden = [sample.hidden_names for sample in samples]
    folds = [sample.origin.fold if isinstance(sample.origin, Photo) else None for sample in samples]
    knows = any(hidden) or getattr(model.base, "caption_folds", ())  # a projector that has learnt from these samples
    with model.base.as_if_unseen(hidden, folds) if knows else nullcontext():
        return _first_pass(model, samples, recipe)


def _first_pass(model: SummaryLvlm, samples: Sequence[Sample], recipe: Recipe) -> FirstPass:
    if recipe.reads != SUMMARY:
        with torch.no_grad():
            tokens = torch.stack(baseline_tokens(model, [sample.image for sample in samples], recipe.reads)).float()
        return FirstPass(tokens, tokens[:0], None)
    with torch.no_grad():
        inputs = model.first_pass_inputs([sample.image for sample in samples])
    return model.first_pass(inputs, frozen=recipe.first_pass_rate == 0)


def captions(model: SummaryLvlm, samples: Sequence[Sample], first: FirstPass, recipe: Recipe) -> Captions:
    """Embeddings of the samples that have a caption."""
    rows = [row for row, sample in enumerate(samples) if sample.caption]
    said = [_shortened(model, samples[row].caption, recipe.longest_caption_tokens) for row in rows]
    images = model.head.embed_image(first.image_states[rows])
    with torch.set_grad_enabled(torch.is_grad_enabled() and recipe.first_pass_rate > 0):
        # Without a caption the model runs all the same: where it is shared out, others wait for this process's part.
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
    return losses.contrastive(images, texts, model.head.log_scale, same)


def shares_of(
    model: SummaryLvlm,
    samples: Sequence[Sample],
    recipe: Recipe,
    caption_words: frozenset[str],
    processes: Processes,
) -> Shares:
    """Counts what the losses of the samples of all processes are means over."""
    opened = model.prompt_ends_open()
    here = sum(len(answer_ids(model, opened, answer)) for pairs in _asked(samples, recipe) for _, answer in pairs)
    weight = 0.0
    if recipe.words_weight:
        weight = sum(each.weight for found in _targets(model, samples, caption_words) for each in found)
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
        words = losses.words(first.logits, _targets(model, samples, caption_words), shares.word_weight)
    packed = pack(model, drawn(first.tokens, budgets_of(recipe, model.config.token_count)), _asked(samples, recipe))
    with model.adapters.use("second_pass"):
        hidden = model.base.base_model(
            inputs_embeds=packed.embeddings,
            attention_mask=packed.mask,
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state
        answering = packed.labels != -100
        logits = model.base.get_output_embeddings()(hidden[answering])
    return losses.autoregressive(logits, packed.labels[answering], shares.answer_tokens), words


def _asked(samples: Sequence[Sample], recipe: Recipe) -> list[list[tuple[str, str]]]:
    return [[(qa.question, qa.answer) for qa in sample.questions[: recipe.questions_per_image]] for sample in samples]


def _targets(model: SummaryLvlm, samples: Sequence[Sample], caption_words: frozenset[str]) -> list[list[Target]]:
    return [targets(sample, model.tokenizer, caption_words) for sample in samples]


def _shortened(model: SummaryLvlm, caption: str, longest: int) -> str:
    ids = model.tokenizer(caption, add_special_tokens=False)["input_ids"]
    return caption if len(ids) <= longest else str(model.tokenizer.decode(ids[:longest]))
