"""Run as a process by test_distributed.py, once for each rank."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from compressor.training.config import TrainConfig
from compressor.training.distributed import Distributed, shard_frozen_base
from compressor.training.grad_cache import backward
from compressor.training.trainer import train
from tests.compressor.tiny import trained
from tests.compressor.training.samples import (
    Stream,
    ready,
    tiny_lvlm,
    trained_parameters,
    uneven_batch,
)


def gathering(world: Distributed) -> dict[str, object]:
    """Rows that differ in number; their gradients; values; a mean."""
    count = world.rank + 1
    rows = torch.full((count, 2), float(world.rank), requires_grad=True)
    gathered = world.all_gather(rows)
    weights = torch.arange(6.0).reshape(3, 2)
    (gathered * weights).sum().backward()
    of_the_second_alone = torch.ones(3 * world.rank, 1)
    none = world.all_gather(of_the_second_alone)
    with_gradient = torch.nn.Parameter(torch.zeros(2))
    without = torch.nn.Parameter(torch.zeros(1))
    if world.rank == 0:
        with_gradient.grad = torch.tensor([2.0, 4.0])
    world.all_reduce_grads([with_gradient, without])
    return {
        "rows": gathered.detach(),
        "gradient": rows.grad,
        "none_of_the_first": len(none),
        "values": world.all_gather_object([world.rank] * count),
        "mean": with_gradient.grad,
        "zero": without.grad,
    }


def step_of(recipe: TrainConfig, world: Distributed) -> dict[str, torch.Tensor]:
    """Losses and gradients of a step over the uneven batch.

    With FSDP the second process has neither captions nor answers, and must run the model all the
    same.
    """
    model = trained(tiny_lvlm())
    batch = uneven_batch()
    if recipe.fsdp:
        shard_frozen_base(model, world)
        for number in range(1, len(batch), 2):
            batch[number] = replace(
                batch[number], caption="", questions=(), dialogue=()
            )
    if recipe.gradient_checkpointing:
        model.adapters.checkpoint_activations(model.base)
    batches = ready(model, world.shard(batch), recipe, recipe.micro_batch_size)
    losses = backward(model, batches, recipe, world)
    parameters = dict(model.trained_parameters())
    world.all_reduce_grads(parameters.values())
    gradients = {}
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            gradients[name] = parameter.grad
    own = [
        float(losses.autoregressive),
        float(losses.contrastive),
    ]
    by_rank = torch.tensor(world.all_gather_object([own]))
    return {"losses": by_rank.mean(0), **gradients}


def held_of_layers(world: Distributed) -> tuple[int, int]:
    """Numbers that this process holds of the sharded frozen weights, and how many there are."""
    model = tiny_lvlm()
    shard_frozen_base(model, world)
    weights = [weight for weight in model.parameters() if isinstance(weight, DTensor)]
    held = sum(weight.to_local().numel() for weight in weights)
    total = sum(weight.numel() for weight in weights)
    return held, total


def run_of(
    recipe: TrainConfig, folder: Path, world: Distributed
) -> dict[str, torch.Tensor]:
    """The trained parameters after a run."""
    model = trained(tiny_lvlm())
    logs = train(model, Stream(), recipe, folder, world)
    for _ in logs:
        pass
    return trained_parameters(model)


def main(folder: Path) -> None:
    world = Distributed.from_environment()
    recipes = torch.load(folder / "recipes.pt", weights_only=False)
    results = {
        "gathering": gathering(world),
        "steps": [step_of(recipe, world) for recipe in recipes["steps"]],
        "held": held_of_layers(world),
        "run": run_of(recipes["run"], folder / "run", world),
    }
    torch.save(results, folder / f"{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
