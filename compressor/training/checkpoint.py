"""Checkpoints of a training run: exact resume, atomic, the newest kept.

Knows nothing of losses. A folder with `state.safetensors` (parameters, optimiser moments, random
state) and `state.json` (step, data position), written under a temporary name and renamed when
complete. No pickle.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from compressor.errors import DataInvalid, TrainingStopped
from compressor.training.config import TrainConfig

FOLDER = "checkpoint"


def save(
    run: Path,
    parameters: Mapping[str, Tensor],
    optimiser: torch.optim.AdamW,
    step: int,
    data_position: Mapping[str, Any],
    config: TrainConfig,
) -> None:
    """Writes the run's checkpoint; the one before stays until this one is complete.

    Raises TrainingStopped where it cannot be written: a full disk, say.
    """
    temporary, final, old = run / f"{FOLDER}.tmp", run / FOLDER, run / f"{FOLDER}.old"
    tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for kind, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser/{kind}/{name}"] = value
    tensors["random"] = torch.get_rng_state()
    owned = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    state = {"step": step, "data": data_position, "recipe": asdict(config)}
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(owned, temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps(state))
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        if (
            final.exists()
        ):  # else `old` is all there is, from a save that was cut off between the two renames
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        temporary.rename(final)
        _sync(run)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise TrainingStopped(
            f"the checkpoint of step {step} cannot be written ({error}); the one before is usable"
        ) from error


def load(
    run: Path, parameters: Mapping[str, Tensor], optimiser: torch.optim.AdamW, config: TrainConfig
) -> tuple[int, Mapping[str, Any]] | None:
    """Restores parameters, optimiser and random state; the step reached and the data's position,
    None if none.

    Raises DataInvalid if the checkpoint is of another recipe or damaged.
    """
    folder = next((run / name for name in (FOLDER, f"{FOLDER}.old") if (run / name).exists()), None)
    if folder is None:
        return None
    try:
        state = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "state.safetensors")
        # A field that is newer than the checkpoint had its default.
        if not type(config).from_values(state["recipe"]).same_but_for_steps(config):
            raise DataInvalid(f"{folder} belongs to a run with another recipe")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
                moments = {
                    k: tensors.get(f"optimiser/{k}/{name}")
                    for k in ("step", "exp_avg", "exp_avg_sq")
                }
                if all(value is not None for value in moments.values()):
                    optimiser.state[parameter] = moments
        torch.set_rng_state(tensors["random"])
        return int(state["step"]), state["data"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, DataInvalid):
            raise
        raise DataInvalid(f"{folder} is damaged or of another model: {error}") from error


def _sync(path: Path) -> None:
    """Has the file or the folder's entries on disk before anything that relies on them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
