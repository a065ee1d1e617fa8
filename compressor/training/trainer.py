"""The training loop: steps, learning rates, checkpoints, log.

Knows nothing of what the losses mean. A run's folder holds `log.jsonl` (a line a step) and the
checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from compressor.errors import RecipeInvalid, TrainingStopped
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training import checkpoint
from compressor.training.config import Recipe
from compressor.training.distributed import Alone, Processes, share
from compressor.training.grad_cache import backward
from compressor.training.packing import budgets_of
from compressor.training.sample import Sample
from compressor.training.step import StepLosses

STATISTICS_SAMPLES = 96


class Samples(Protocol):
    """An endless stream that can be stopped and taken up again exactly."""

    def __iter__(self) -> Iterator[Sample]: ...

    def __next__(self) -> Sample: ...

    def state_dict(self) -> Mapping[str, Any]:
        """Where the stream stands; JSON-serialisable."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken. Raises DataInvalid if it was taken from another stream."""
        ...


def parameter_groups(model: SummaryLvlm, recipe: Recipe) -> dict[float, dict[str, nn.Parameter]]:
    """Trained parameters by learning rate: each adapter has its own, all that is small shares the
    third.
    """
    groups: dict[float, dict[str, nn.Parameter]] = {}
    for name, parameter in model.trained_parameters():
        if "first_pass" in name:
            rate = recipe.first_pass_rate
        elif "second_pass" in name:
            rate = recipe.second_pass_rate
        else:
            rate = recipe.head_rate
        groups.setdefault(rate, {})[name] = parameter
    return groups


def rate_factor(step: int, recipe: Recipe) -> float:
    """Share of the full learning rate at a step: a linear rise, then a cosine down to a tenth."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))


def take_statistics(model: SummaryLvlm, samples: Sequence[Sample], batch_size: int) -> None:
    """Standardises the retrieval head's inputs: a few channels of the hidden states would drown the
    rest.
    """
    images, texts = [], []
    with torch.no_grad():
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            images.append(
                model.first_pass(
                    model.first_pass_inputs([each.image for each in batch])
                ).image_states
            )
            texts.append(
                model.text_states([each.caption or each.questions[0].answer for each in batch])
            )
        model.head.fit_statistics(torch.cat(images), torch.cat(texts))


def train(
    model: SummaryLvlm,
    data: Samples,
    recipe: Recipe,
    run: Path,
    caption_words: frozenset[str],
    processes: Processes | None = None,
) -> Iterator[tuple[int, StepLosses]]:
    """Runs or resumes; yields after each step. The model's budgets are from now on the recipe's.

    All processes draw the same stream, and each looks at its part of a batch. The first keeps log
    and checkpoint. Raises TrainingStopped with a usable checkpoint left behind, RecipeInvalid.
    """
    processes = processes or Alone()
    if recipe.shard_base and recipe.batch_size % processes.count:
        raise RecipeInvalid(f"with shard_base {processes.count} processes need as many images each")
    model.config = replace(model.config, budgets=budgets_of(recipe, model.config.token_count))
    groups = parameter_groups(model, recipe)
    parameters = {name: parameter for group in groups.values() for name, parameter in group.items()}
    optimiser = torch.optim.AdamW(
        [{"params": list(group.values()), "lr": rate} for rate, group in groups.items()],
        weight_decay=recipe.weight_decay,
    )
    full_rates = list(groups)
    # nothing trained here has another way of working in training; frozen batch norms must stay
    model.eval()
    if recipe.recompute:
        model.adapters.checkpoint_activations(model.base)
    torch.manual_seed(recipe.seed)
    first_step = 0
    kept = {**parameters, **{f"head.{name}": buffer for name, buffer in model.head.named_buffers()}}
    restored = checkpoint.load(run, kept, optimiser, recipe)
    if restored is not None:
        first_step, position = restored
        data.load_state_dict(position)
    elif not model.head.has_statistics:
        take_statistics(model, list(islice(data, STATISTICS_SAMPLES)), recipe.batch_size)
    run.mkdir(parents=True, exist_ok=True)
    for step in range(first_step, recipe.steps):
        started = time.monotonic()
        for group, rate in zip(optimiser.param_groups, full_rates, strict=True):
            group["lr"] = rate * rate_factor(step, recipe)
        try:
            samples = share(list(islice(data, recipe.batch_size)), processes)
            optimiser.zero_grad()
            losses = _of_all(backward(model, samples, recipe, caption_words, processes), processes)
            processes.average(parameters.values())
            total = losses.total(recipe)
            norm = nn.utils.clip_grad_norm_(parameters.values(), recipe.most_gradient)
            if not (torch.isfinite(total) and torch.isfinite(norm)):
                raise TrainingStopped(
                    f"the loss or gradient of step {step} is no number; the last checkpoint is usable"
                )
            optimiser.step()
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise TrainingStopped(
                f"out of memory at step {step}: choose a smaller batch_size"
            ) from error
        if processes.rank == 0:
            _log(run, step, losses, float(norm), time.monotonic() - started)
        due = (step + 1) % recipe.checkpoint_every_steps == 0 or step + 1 == recipe.steps
        if due and processes.rank == 0:
            checkpoint.save(run, kept, optimiser, step + 1, data.state_dict(), recipe)
        yield step, losses


def _of_all(here: StepLosses, processes: Processes) -> StepLosses:
    """The mean over processes: the batch's losses."""
    told = processes.all_of(
        [[float(each) for each in (here.autoregressive, here.contrastive, here.words)]]
    )
    return StepLosses(*torch.tensor(told, dtype=torch.float64).mean(0))


def _log(run: Path, step: int, losses: StepLosses, norm: float, seconds: float) -> None:
    line = {
        "step": step,
        "autoregressive": round(float(losses.autoregressive), 4),
        "contrastive": round(float(losses.contrastive), 4),
        "words": round(float(losses.words), 4),
        "gradient_norm": round(norm, 3),
        "seconds": round(seconds, 2),
    }
    with (run / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
