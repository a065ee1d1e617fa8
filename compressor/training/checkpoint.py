"""Checkpoints of a training run: exact resume, atomic, the newest kept.

Knows nothing of losses. A folder with `state.safetensors` (parameters, optimiser moments, random state) and
`state.json` (step, data position), written under a temporary name and renamed when complete. No pickle.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from compressor.errors import DataInvalid
from compressor.training.recipe import Recipe

FOLDER = "checkpoint"


def save(
    run: Path,
    parameters: Mapping[str, nn.Parameter],
    optimiser: torch.optim.AdamW,
    step: int,
    data_position: Mapping[str, Any],
    recipe: Recipe,
) -> None:
    """Writes the run's checkpoint; the one before stays until this one is complete."""
    temporary, final, old = run / f"{FOLDER}.tmp", run / FOLDER, run / f"{FOLDER}.old"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for kind, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser/{kind}/{name}"] = value
    tensors["random"] = torch.get_rng_state()
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, temporary / "state.safetensors")
    state = {"step": step, "data": data_position, "recipe": asdict(recipe)}
    (temporary / "state.json").write_text(json.dumps(state))
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    temporary.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def load(
    run: Path, parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.AdamW, recipe: Recipe
) -> tuple[int, Mapping[str, Any]] | None:
    """Restores parameters, optimiser and random state; the step reached and the data's position, None if none.

    Raises DataInvalid if the checkpoint is of another recipe or damaged.
    """
    folder = next((run / name for name in (FOLDER, f"{FOLDER}.old") if (run / name).exists()), None)
    if folder is None:
        return None
    try:
        state = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "state.safetensors")
        if {**state["recipe"], "steps": 0} != {**asdict(recipe), "steps": 0}:
            raise DataInvalid(f"{folder} belongs to a run with another recipe")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
                moments = {k: tensors.get(f"optimiser/{k}/{name}") for k in ("step", "exp_avg", "exp_avg_sq")}
                if all(value is not None for value in moments.values()):
                    optimiser.state[parameter] = moments
        torch.set_rng_state(tensors["random"])
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, DataInvalid):
            raise
        raise DataInvalid(f"{folder} is damaged: {error}") from error
    return int(state["step"]), state["data"]
