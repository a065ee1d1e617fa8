"""Checkpoints: moments where the parameters are, and no resume in another layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from compressor.errors import DataInvalid
from compressor.training import checkpoint
from compressor.training.checkpoint import Layout
from compressor.training.config import TrainConfig

CONFIG = TrainConfig(steps=4)
DATA = {"sources": [{"seed": 1}]}
LAYOUT = Layout(world_size=2, dtype="float32", data=DATA)
OF_A_RANK = [torch.get_rng_state()]
RANDOM = [OF_A_RANK, OF_A_RANK]


def stepped(parameter: nn.Parameter) -> torch.optim.AdamW:
    """An optimiser that has made a step."""
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def saved(run: Path) -> tuple[nn.Parameter, torch.optim.AdamW]:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = stepped(parameter)
    checkpoint.save(run, 1, {"weight": parameter}, optimizer, RANDOM, CONFIG, LAYOUT)
    return parameter, optimizer


@pytest.mark.parametrize(
    ("device", "dtype"),
    [("meta", torch.float32), ("cpu", torch.float64), ("cpu", torch.float32)],
)
def test_moments_are_where_and_what_their_parameter_is(
    tmp_path: Path, device: str, dtype: torch.dtype
) -> None:
    """The meta device stands for a GPU: another device than the one the file is read to."""
    before, optimizer_before = saved(tmp_path)
    parameter = nn.Parameter(torch.zeros(3, device=device, dtype=dtype))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    restored = checkpoint.load(
        tmp_path, {"weight": parameter}, optimizer, CONFIG, LAYOUT
    )
    assert restored is not None
    assert restored[0] == 1
    state = optimizer.state[parameter]
    for moment in ("exp_avg", "exp_avg_sq"):
        assert state[moment].device == parameter.device
        assert state[moment].dtype == parameter.dtype
    # AdamW counts its steps in float32 on the CPU.
    assert (state["step"].device.type, state["step"].dtype) == ("cpu", torch.float32)
    assert float(state["step"]) == 1
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    if device == "cpu":
        before.grad = torch.ones_like(before)
        optimizer_before.step()
        torch.testing.assert_close(parameter.to(before.dtype), before)


@pytest.mark.parametrize(
    ("config", "layout", "message"),
    [
        (
            CONFIG,
            replace(LAYOUT, world_size=1),
            "written by 2 processes, this run has 1",
        ),
        (
            CONFIG,
            replace(LAYOUT, dtype="bfloat16"),
            "trained in float32, this run is bfloat16",
        ),
        (CONFIG, replace(LAYOUT, data={"sources": []}), "other data"),
        (replace(CONFIG, micro_batch_size=4), LAYOUT, "micro_batch_size was 0, is 4"),
    ],
)
def test_another_layout_is_refused_and_changes_nothing(
    tmp_path: Path, config: TrainConfig, layout: Layout, message: str
) -> None:
    saved(tmp_path)
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    with pytest.raises(DataInvalid, match=message) as refused:
        checkpoint.load(tmp_path, {"weight": parameter}, optimizer, config, layout)
    assert "\n" not in str(refused.value)
    assert not parameter.any()
    assert not optimizer.state


def test_more_steps_and_other_workers_are_no_other_run(tmp_path: Path) -> None:
    saved(tmp_path)
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    longer = replace(CONFIG, steps=9, workers=7)
    assert checkpoint.load(tmp_path, {"weight": parameter}, optimizer, longer, LAYOUT)


def test_every_rank_gets_its_own_random_state_back(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = stepped(parameter)
    states = []
    # More than ten states of a rank, as on a machine with many GPUs: their order is by number.
    for rank in range(2):
        numbers = [[rank, number] for number in range(12)]
        states.append(list(torch.tensor(numbers, dtype=torch.uint8)))
    parameters = {"weight": parameter}
    checkpoint.save(tmp_path, 1, parameters, optimizer, states, CONFIG, LAYOUT)
    restored = checkpoint.load(tmp_path, parameters, optimizer, CONFIG, LAYOUT)
    assert restored is not None
    for rank, of_rank in enumerate(restored[1]):
        numbers = [state.tolist() for state in of_rank]
        assert numbers == [[rank, number] for number in range(12)]
