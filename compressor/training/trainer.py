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
from compressor.training.auxiliary import NO_AUXILIARY, Auxiliary
from compressor.training.config import TrainConfig
from compressor.training.distributed import SINGLE, Distributed
from compressor.training.grad_cache import backward
from compressor.training.packing import nested_budgets
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


def parameter_groups(
    model: SummaryLvlm, config: TrainConfig
) -> dict[float, dict[str, nn.Parameter]]:
    """Trained parameters by learning rate: each adapter has its own, all that is small shares the
    third.
    """
    groups: dict[float, dict[str, nn.Parameter]] = {}
    for name, parameter in model.trained_parameters():
        if "first_pass" in name:
            rate = config.first_pass_lr
        elif "second_pass" in name:
            rate = config.second_pass_lr
        else:
            rate = config.head_lr
        groups.setdefault(rate, {})[name] = parameter
    return groups


def rate_factor(step: int, config: TrainConfig) -> float:
    """Share of the full learning rate at a step: a linear rise, then a cosine down to a tenth."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
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
                ).hidden_states
            )
            texts.append(
                model.text_states([each.caption or each.questions[0].answer for each in batch])
            )
        model.head.fit_statistics(torch.cat(images), torch.cat(texts))


def train(
    model: SummaryLvlm,
    data: Samples,
    config: TrainConfig,
    run: Path,
    world: Distributed = SINGLE,
    auxiliary: Auxiliary = NO_AUXILIARY,
) -> Iterator[tuple[int, StepLosses]]:
    """Runs or resumes; yields after each step. The model's budgets are from now on the recipe's.

    All processes draw the same stream, and each looks at its part of a batch. The first keeps log
    and checkpoint. Raises TrainingStopped with a usable checkpoint left behind, RecipeInvalid.
    """
    if config.fsdp and config.batch_size % world.world_size:
        raise RecipeInvalid(f"with fsdp {world.world_size} processes need as many images each")
    model.config = replace(model.config, budgets=nested_budgets(config, model.config.token_count))
    groups = parameter_groups(model, config)
    parameters = {name: parameter for group in groups.values() for name, parameter in group.items()}
    optimiser = torch.optim.AdamW(
        [{"params": list(group.values()), "lr": rate} for rate, group in groups.items()],
        weight_decay=config.weight_decay,
    )
    full_rates = list(groups)
    # nothing trained here has another way of working in training; frozen batch norms must stay
    model.eval()
    if config.gradient_checkpointing:
        model.adapters.checkpoint_activations(model.base)
    torch.manual_seed(config.seed)
    first_step = 0
    kept = {**parameters, **{f"head.{name}": buffer for name, buffer in model.head.named_buffers()}}
    restored = checkpoint.load(run, kept, optimiser, config)
    if restored is not None:
        first_step, position = restored
        data.load_state_dict(position)
    elif not model.head.has_statistics:
        take_statistics(model, list(islice(data, STATISTICS_SAMPLES)), config.batch_size)
    run.mkdir(parents=True, exist_ok=True)
    for step in range(first_step, config.steps):
        started = time.monotonic()
        for group, rate in zip(optimiser.param_groups, full_rates, strict=True):
            group["lr"] = rate * rate_factor(step, config)
        try:
            samples = world.shard(list(islice(data, config.batch_size)))
            optimiser.zero_grad()
            losses = _mean_over_ranks(backward(model, samples, config, world, auxiliary), world)
            world.all_reduce_grads(parameters.values())
            total = losses.total(config, auxiliary)
            norm = nn.utils.clip_grad_norm_(parameters.values(), config.max_grad_norm)
            if not (torch.isfinite(total) and torch.isfinite(norm)):
                raise TrainingStopped(
                    f"the loss or gradient of step {step} is no number; the last checkpoint is usable"
                )
            optimiser.step()
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise TrainingStopped(
                f"out of memory at step {step}: choose a smaller batch_size"
            ) from error
        if world.rank == 0:
            _log(run, step, losses, float(norm), time.monotonic() - started)
        due = (step + 1) % config.save_every == 0 or step + 1 == config.steps
        if due and world.rank == 0:
            checkpoint.save(run, kept, optimiser, step + 1, data.state_dict(), config)
        yield step, losses


def _mean_over_ranks(losses: StepLosses, world: Distributed) -> StepLosses:
    """The batch's losses."""
    own = [float(losses.autoregressive), float(losses.contrastive), float(losses.auxiliary)]
    ranks = torch.tensor(world.all_gather_object([own]), dtype=torch.float64)
    return StepLosses(*ranks.mean(0))


def _log(run: Path, step: int, losses: StepLosses, norm: float, seconds: float) -> None:
    line = {
        "step": step,
        "autoregressive": round(float(losses.autoregressive), 4),
        "contrastive": round(float(losses.contrastive), 4),
        "auxiliary": round(float(losses.auxiliary), 4),
        "gradient_norm": round(norm, 3),
        "seconds": round(seconds, 2),
    }
    with (run / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
