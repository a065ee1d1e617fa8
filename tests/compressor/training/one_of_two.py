"""Run as a process by test_processes.py, once for each rank: what it gathers, and the gradients of
its step.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from compressor.training.config import Recipe
from compressor.training.distributed import Processes, shard_base, share, started
from compressor.training.grad_cache import backward
from compressor.training.trainer import train
from tests.compressor.tiny import tiny_model, trained
from tests.compressor.training.samples import Stream, uneven_batch


def gathering(processes: Processes) -> dict[str, object]:
    """Rows that differ in number; their gradients; values; a mean."""
    rows = torch.full((processes.rank + 1, 2), float(processes.rank), requires_grad=True)
    gathered = processes.gathered(rows)
    (gathered * torch.arange(6.0).reshape(3, 2)).sum().backward()
    none = processes.gathered(torch.ones(3 * processes.rank, 1))
    with_gradient, without = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))
    if processes.rank == 0:
        with_gradient.grad = torch.tensor([2.0, 4.0])
    processes.average([with_gradient, without])
    return {
        "rows": gathered.detach(),
        "gradient": rows.grad,
        "none_of_the_first": len(none),
        "values": processes.all_of([processes.rank] * (processes.rank + 1)),
        "mean": with_gradient.grad,
        "zero": without.grad,
    }


def step_of(recipe: Recipe, processes: Processes) -> dict[str, torch.Tensor]:
    """Losses and gradients of a step over the uneven batch; sharded ones have captions in the first
    process alone.
    """
    model, batch = trained(tiny_model()), uneven_batch()
    if recipe.shard_base:
        shard_base(model, processes)
        batch = [
            replace(each, caption="" if number % 2 else each.caption)
            for number, each in enumerate(batch)
        ]
    if recipe.recompute:
        model.adapters.checkpoint_activations(model.base)
    losses = backward(model, share(batch, processes), recipe, frozenset(), processes)
    parameters = dict(model.trained_parameters())
    processes.average(parameters.values())
    gradients = {
        name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None
    }
    told = processes.all_of(
        [[float(losses.autoregressive), float(losses.contrastive), float(losses.words)]]
    )
    return {"losses": torch.tensor(told).mean(0), **gradients}


def held_of_layers(processes: Processes) -> tuple[int, int]:
    """Numbers that this process holds of the frozen weights of transformer layers, and how many
    there are.
    """
    model = tiny_model()
    shard_base(model, processes)
    weights = [weight for weight in model.parameters() if isinstance(weight, DTensor)]
    return sum(weight.to_local().numel() for weight in weights), sum(
        weight.numel() for weight in weights
    )


def run_of(recipe: Recipe, folder: Path, processes: Processes) -> dict[str, torch.Tensor]:
    """The trained parameters after a run."""
    model = trained(tiny_model())
    for _ in train(model, Stream(), recipe, folder, frozenset(), processes):
        pass
    return {name: parameter.detach() for name, parameter in model.trained_parameters()}


def main(folder: Path) -> None:
    processes = started()
    recipes = torch.load(folder / "recipes.pt", weights_only=False)
    found = {
        "gathering": gathering(processes),
        "steps": [step_of(recipe, processes) for recipe in recipes["steps"]],
        "held": held_of_layers(processes),
        "run": run_of(recipes["run"], folder / "run", processes),
    }
    torch.save(found, folder / f"{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
