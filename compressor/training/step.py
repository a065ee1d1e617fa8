"""One double-forward step: first pass, contrastive loss, second pass over its tokens, autoregressive loss.

Knows nothing of optimisers or files. The gradient of the answers flows through the summary tokens into the first pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.lvlm import FirstPass, SummaryLvlm
from compressor.training import losses
from compressor.training.budgets import budgets_of, drawn
from compressor.training.data.mixture import Sample
from compressor.training.packing import pack
from compressor.training.recipe import Recipe
from compressor.training.targets import targets


@dataclass(frozen=True)
class StepLosses:
    """Losses of one step, unweighted."""

    autoregressive: Tensor
    contrastive: Tensor
    words: Tensor

    def total(self, recipe: Recipe) -> Tensor:
        """What is minimised."""
        return self.autoregressive + recipe.contrastive_weight * self.contrastive + recipe.words_weight * self.words


def double_forward(
    model: SummaryLvlm, samples: Sequence[Sample], recipe: Recipe, caption_words: frozenset[str]
) -> StepLosses:
    """Both passes over a batch of samples."""
    with torch.no_grad():
        inputs = model.first_pass_inputs([sample.image for sample in samples])
    frozen = recipe.first_pass_rate == 0
    first = model.first_pass(inputs, frozen=frozen)

    contrastive = words = first.tokens.new_zeros(())
    if recipe.contrastive_weight:
        contrastive = _contrastive(model, samples, first, recipe, frozen)
    if recipe.words_weight and first.logits is not None:
        words = losses.words(first.logits, [targets(sample, model.tokenizer, caption_words) for sample in samples])

    asked = [[(qa.question, qa.answer) for qa in sample.questions[: recipe.questions_per_image]] for sample in samples]
    packed = pack(model, drawn(first.tokens, budgets_of(recipe, model.config.token_count)), asked)
    with model.adapters.use("second_pass"):
        hidden = model.base.base_model(
            inputs_embeds=packed.embeddings,
            attention_mask=packed.mask,
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state
        answering = packed.labels != -100
        logits = model.base.get_output_embeddings()(hidden[answering])
    return StepLosses(losses.autoregressive(logits, packed.labels[answering]), contrastive, words)


def _contrastive(
    model: SummaryLvlm, samples: Sequence[Sample], first: FirstPass, recipe: Recipe, frozen: bool
) -> Tensor:
    rows = [row for row, sample in enumerate(samples) if sample.caption]
    if len(rows) < 2:
        return first.tokens.new_zeros(())
    captions = [_shortened(model, samples[row].caption, recipe.longest_caption_tokens) for row in rows]
    same = torch.tensor([[one == other for other in captions] for one in captions], device=model.device)
    with torch.set_grad_enabled(not frozen):
        text_states = model.text_states(captions)
    return losses.contrastive(
        model.head.embed_image(first.image_states[rows]), model.head.embed_text(text_states), model.head.log_scale, same
    )


def _shortened(model: SummaryLvlm, caption: str, longest: int) -> str:
    ids = model.tokenizer(caption, add_special_tokens=False)["input_ids"]
    return caption if len(ids) <= longest else str(model.tokenizer.decode(ids[:longest]))
