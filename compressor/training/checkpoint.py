"""Checkpoints of a training run: exact resume, atomic, the newest kept.

A folder with `state.safetensors` (parameters, optimiser moments, random states) and `state.json`
(step, recipe, layout), written under a temporary name and renamed when complete. No pickle.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from compressor.errors import DataInvalid, TrainingStopped
from compressor.training.config import TrainConfig

FOLDER = "checkpoint"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW


@dataclass(frozen=True)
class Layout:
    """What a run must have in common with its checkpoint, beside the recipe."""

    world_size: int
    dtype: str  # of the forward passes
    data: Mapping[str, Any]  # identities of the sources of samples


def save(
    run: Path,
    step: int,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.AdamW,
    random_states: Sequence[Sequence[Tensor]],
    config: TrainConfig,
    layout: Layout,
) -> None:
    """Writes the run's checkpoint; the one before stays until this one is complete.

    `step` is the next one, `random_states` are by rank. Raises TrainingStopped where it cannot be
    written: a full disk, say.
    """
    temporary, final, old = run / f"{FOLDER}.tmp", run / FOLDER, run / f"{FOLDER}.old"
    tensors = {
        f"parameter/{name}": parameter.detach()
        for name, parameter in parameters.items()
    }
    for name, parameter in parameters.items():
        for moment, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimiser/{moment}/{name}"] = value
    for rank, states in enumerate(random_states):
        tensors |= {
            f"random/{rank}/{number}": state for number, state in enumerate(states)
        }
    owned = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    state = {"step": step, "recipe": asdict(config), **asdict(layout)}
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(owned, temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps(state))
        # Before the renames, or after a power failure a whole name could stand for empty files.
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        # Without `final`, `old` is all there is: an earlier save was cut off between its renames.
        if final.exists():
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
    run: Path,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.AdamW,
    config: TrainConfig,
    layout: Layout,
) -> tuple[int, list[list[Tensor]]] | None:
    """Restores parameters and optimiser; the next step and the random states by rank, if any.

    Raises DataInvalid if the checkpoint is of another recipe, layout or model, or damaged.
    """
    # The new folder first: the old one is there only where a save was cut off.
    folders = [
        run / name for name in (FOLDER, f"{FOLDER}.old") if (run / name).exists()
    ]
    if not folders:
        return None
    folder = folders[0]
    try:
        state = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "state.safetensors")
        # Before anything of the model is changed.
        _check(folder, state, config, layout)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
        _load_moments(optimizer, parameters, tensors)
        return int(state["step"]), _random_states(tensors, layout.world_size)
    # The message says what is wrong; as a ValueError it would be taken for damage below.
    except DataInvalid:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        SafetensorError,
    ) as error:
        raise DataInvalid(
            f"{folder} is damaged or of another model: {error}"
        ) from error


def _check(
    folder: Path, state: Mapping[str, Any], config: TrainConfig, layout: Layout
) -> None:
    # A field that is newer than the checkpoint had its default.
    before = type(config).from_values(state["recipe"])
    changes = []
    for name in config.different_fields(before):
        changes.append(
            f"{name} was {getattr(before, name)!r}, is {getattr(config, name)!r}"
        )
    if changes:
        raise DataInvalid(
            f"{folder} belongs to a run with another recipe: {', '.join(changes)}"
        )
    if state["world_size"] != layout.world_size:
        raise DataInvalid(
            f"{folder} was written by {state['world_size']} processes, "
            f"this run has {layout.world_size}: start as many"
        )
    if state["dtype"] != layout.dtype:
        raise DataInvalid(
            f"{folder} was trained in {state['dtype']}, this run is {layout.dtype}"
        )
    # Through JSON, as the other side came: tuples have become lists.
    if state["data"] != json.loads(json.dumps(layout.data)):
        raise DataInvalid(
            f"{folder} belongs to a run over other data, or in other shares"
        )


def _load_moments(
    optimizer: torch.optim.AdamW,
    parameters: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> None:
    names = {parameter: name for name, parameter in parameters.items()}
    grouped = [
        parameter for group in optimizer.param_groups for parameter in group["params"]
    ]
    state = {}
    for number, parameter in enumerate(grouped):
        keys = {moment: f"optimiser/{moment}/{names[parameter]}" for moment in _MOMENTS}
        # A parameter that has had no gradient yet has no moments.
        if all(key in tensors for key in keys.values()):
            state[number] = {moment: tensors[key] for moment, key in keys.items()}
    # PyTorch's own loading puts the moments on each parameter's device and in its dtype, and leaves
    # `step` where AdamW wants it. Assigned, they would stay on the CPU they were read to.
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _random_states(
    tensors: Mapping[str, Tensor], world_size: int
) -> list[list[Tensor]]:
    states = []
    for rank in range(world_size):
        names = sorted(
            (name for name in tensors if name.startswith(f"random/{rank}/")),
            # By number: as text, 10 would stand before 2.
            key=lambda name: int(name.rpartition("/")[2]),
        )
        states.append([tensors[name] for name in names])
        if not names:
            raise KeyError(f"random/{rank}")
    return states


def _sync(path: Path) -> None:
    """Has the file or the folder's entries on disk before anything that relies on them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
