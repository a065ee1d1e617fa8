"""Two real processes over gloo make the step of one with the whole batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compressor.errors import RecipeInvalid
from compressor.training.config import TrainConfig
from compressor.training.distributed import SINGLE, Distributed
from compressor.training.trainer import train
from tests.compressor.training.one_of_two import run_of, step_of
from tests.compressor.training.samples import Stream, logged, tiny_lvlm

PLAIN = TrainConfig(batch_size=7, contrastive_weight=1.0, workers=0)
MICRO = replace(PLAIN, micro_batch_size=2)
FROZEN = replace(PLAIN, first_pass_lr=0.0)
SHARDED = replace(PLAIN, fsdp=True)
RECOMPUTED = replace(PLAIN, fsdp=True, gradient_checkpointing=True)
STEPS = {
    "plain": PLAIN,
    "micro": MICRO,
    "frozen": FROZEN,
    "sharded": SHARDED,
    "recomputed": RECOMPUTED,
}
RUN = TrainConfig(steps=3, batch_size=4, warmup_steps=1, save_every=2, workers=1)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes left behind."""
    folder = tmp_path_factory.mktemp("two processes")
    torch.save({"steps": list(STEPS.values()), "run": RUN}, folder / "recipes.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "tests.compressor.training.one_of_two",
        str(folder),
    ]
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    outputs = []
    for process in running:
        output, _ = process.communicate(timeout=300)
        outputs.append(output.decode())
    returned = [process.returncode for process in running]
    assert returned == [0, 0], "\n".join(outputs)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_rows_of_all_are_gathered_and_their_gradients_come_back(
    found: list[dict[str, Any]],
) -> None:
    for rank, results in enumerate(found):
        told = results["gathering"]
        assert told["rows"].tolist() == [[0, 0], [1, 1], [1, 1]]
        # Both processes use all rows, so that each row's gradient comes from both.
        weights = torch.arange(6.0).reshape(3, 2)
        own = weights[:1] if rank == 0 else weights[1:]
        assert torch.equal(told["gradient"], 2 * own)
        assert told["none_of_the_first"] == 3
        assert told["values"] == [0, 1, 1]
        assert told["mean"].tolist() == [1, 2]
        assert told["zero"].tolist() == [0]


@pytest.mark.parametrize(
    ("number", "recipe"), list(enumerate(STEPS.values())), ids=list(STEPS)
)
def test_two_make_the_step_of_one(
    found: list[dict[str, Any]], number: int, recipe: TrainConfig
) -> None:
    alone = step_of(recipe, SINGLE)
    for each in found:
        two = each["steps"][number]
        torch.testing.assert_close(two["losses"], alone["losses"], atol=1e-5, rtol=1e-5)
        assert set(two) >= set(alone)
        for name in set(two) - {"losses"}:
            expected = alone.get(name, torch.zeros_like(two[name]))
            near = 1e-5 + 2e-3 * float(expected.abs().max())  # sums in another order
            torch.testing.assert_close(
                two[name],
                expected,
                atol=near,
                rtol=1e-4,
                msg=lambda m, n=name: f"{n}: {m}",
            )


def test_of_a_shared_out_model_each_process_holds_half(
    found: list[dict[str, Any]],
) -> None:
    first_layer = tiny_lvlm().base.get_decoder().layers[0]
    layer = sum(weight.numel() for weight in first_layer.parameters())
    held, total = zip(*(each["held"] for each in found), strict=True)
    assert sum(held) == total[0] == total[1]
    assert total[0] > layer  # two layers, without the adapters in them
    assert all(abs(part / total[0] - 0.5) < 0.01 for part in held)


def test_a_shared_out_model_needs_equal_parts(tmp_path: Path) -> None:
    two = Distributed(rank=0, world_size=2)
    uneven = replace(SHARDED, batch_size=7)
    with pytest.raises(RecipeInvalid, match="as many images each"):
        next(train(tiny_lvlm(), Stream(), uneven, tmp_path, two))


def test_two_train_as_one_and_the_first_keeps_the_log(
    folder: Path, found: list[dict[str, Any]], tmp_path: Path
) -> None:
    alone = run_of(RUN, tmp_path, SINGLE)
    for each in found:
        for name, parameter in alone.items():
            torch.testing.assert_close(
                each["run"][name], parameter, atol=2e-4, rtol=1e-3
            )
    lines = logged(folder / "run")
    assert [line["step"] for line in lines] == [0, 1, 2]
    expected = logged(tmp_path)
    for line, other in zip(lines, expected, strict=True):
        assert line["autoregressive"] == pytest.approx(
            other["autoregressive"], abs=2e-3
        )
        assert line["contrastive"] == pytest.approx(other["contrastive"], abs=2e-3)


def test_a_batch_is_shared_out_whole() -> None:
    assert Distributed(0, 3).shard(range(7)) == range(0, 7, 3)
    assert Distributed(2, 3).shard(range(7)) == range(2, 7, 3)
    assert list(SINGLE.shard("abc")) == ["a", "b", "c"]
    assert Distributed.from_environment() == SINGLE
