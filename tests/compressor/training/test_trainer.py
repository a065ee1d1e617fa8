"""The loop and its checkpoints: a run that was cut off anywhere goes on as if nothing had been."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from compressor.errors import DataInvalid, TrainingStopped
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training import checkpoint
from compressor.training.config import TrainConfig
from compressor.training.trainer import build_optimizer, build_scheduler, train
from tests.compressor.training.samples import (
    Stream,
    all_equal,
    logged,
    tiny_lvlm,
    trained_parameters,
)

RECIPE = TrainConfig(
    steps=4,
    batch_size=2,
    questions_per_image=2,
    budgets=(1, 4),
    workers=0,
    warmup_steps=2,
    save_every=2,
)


def fresh() -> SummaryLvlm:
    """The recipe draws a budget for each image at random: the random state matters."""
    model = tiny_lvlm()
    model.head.image_mean.fill_(0.1)  # has its statistics: the first sample trains
    return model


def run(
    model: SummaryLvlm,
    folder: Path,
    recipe: TrainConfig = RECIPE,
    stop_after: int | None = None,
) -> None:
    for _ in islice(train(model, Stream(), recipe, folder), stop_after):
        pass


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    folder: Path
    parameters: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    model = fresh()
    run(model, folder)
    return Finished(folder, trained_parameters(model))


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    """The folder of a finished run, to be changed."""
    shutil.copytree(finished.folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("steps_before", [2, 3])
def test_a_run_that_was_cut_off_ends_bit_for_bit_like_a_whole_one(
    finished: Finished, tmp_path: Path, steps_before: int
) -> None:
    run(fresh(), tmp_path, stop_after=steps_before)
    torch.manual_seed(99)
    model = fresh()
    steps = [log.step for log in train(model, Stream(), RECIPE, tmp_path)]
    assert steps == [2, 3]
    ended = trained_parameters(model)
    assert all_equal(ended, finished.parameters)
    assert not all_equal(ended, trained_parameters(fresh()))


def test_a_finished_run_has_nothing_left_to_do(finished: Finished, copy: Path) -> None:
    model = fresh()
    assert list(train(model, Stream(), RECIPE, copy)) == []
    assert all_equal(trained_parameters(model), finished.parameters)


def test_a_finished_run_may_be_made_longer_and_no_other_number_may_change(
    copy: Path,
) -> None:
    longer = replace(RECIPE, steps=5)
    logs = train(fresh(), Stream(), longer, copy)
    assert next(logs).step == 4
    logs.close()
    faster = replace(RECIPE, head_lr=0.1)
    with pytest.raises(DataInvalid, match="another recipe"):
        next(train(fresh(), Stream(), faster, copy))


@pytest.mark.parametrize("moment", ["save_file", "_sync"])
def test_a_save_that_fails_leaves_the_checkpoint_before(
    copy: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    longer = replace(RECIPE, steps=6)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, moment, full)
        with pytest.raises(TrainingStopped, match="No space left"):
            run(fresh(), copy, longer)
    logs = train(fresh(), Stream(), longer, copy)
    assert next(logs).step == 4


def test_a_save_cut_off_between_its_two_renames_loses_nothing(
    finished: Finished, copy: Path
) -> None:
    (copy / "checkpoint").rename(copy / "checkpoint.old")
    (copy / "checkpoint.tmp").mkdir()
    model = fresh()
    assert list(train(model, Stream(), RECIPE, copy)) == []
    assert all_equal(trained_parameters(model), finished.parameters)
    run(fresh(), copy, replace(RECIPE, steps=6))
    names = {path.name for path in copy.iterdir()}
    assert names == {"checkpoint", "log.jsonl"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b""),
        ("state.json", b"[]"),
        ("state.json", b"{}"),
        ("state.json", b'{"recipe": 3}'),
        ("state.safetensors", b""),
        ("state.safetensors", b"\xff" * 900),
    ],
)
def test_a_damaged_checkpoint_is_refused(copy: Path, name: str, content: bytes) -> None:
    (copy / "checkpoint" / name).write_bytes(content)
    with pytest.raises(DataInvalid, match="checkpoint"):
        run(fresh(), copy)


def test_a_checkpoint_of_another_model_is_refused(copy: Path) -> None:
    other = tiny_lvlm(lora_rank=2)
    with pytest.raises(DataInvalid, match="another model"):
        run(other, copy)


def test_what_is_no_number_stops_the_run_with_a_usable_checkpoint(
    tmp_path: Path,
) -> None:
    model = fresh()

    def poison(position: int) -> None:
        if position == 6:  # for the last step, after the checkpoint of step 2
            with torch.no_grad():
                model.head.logit_scale.fill_(float("nan"))

    with pytest.raises(TrainingStopped, match="step 3"):
        for _ in train(model, Stream(poison), RECIPE, tmp_path):
            pass
    again = fresh()
    logs = list(train(again, Stream(), RECIPE, tmp_path))
    assert [log.step for log in logs] == [2, 3]
    for value in trained_parameters(again).values():
        assert torch.isfinite(value).all()


def test_out_of_memory_says_what_to_do(tmp_path: Path) -> None:
    def burst(position: int) -> None:
        if position == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingStopped, match="smaller batch_size"):
        for _ in train(fresh(), Stream(burst), RECIPE, tmp_path):
            pass


def test_a_worker_that_dies_stops_the_run_in_one_line(tmp_path: Path) -> None:
    def die(number: int) -> None:
        if number == 2:
            # As the kernel ends a process when memory is short: without a word.
            os._exit(1)

    logs = train(fresh(), Stream(die), replace(RECIPE, workers=1), tmp_path)
    with pytest.raises(
        TrainingStopped, match="a process that prepares samples died"
    ) as stopped:
        list(logs)
    assert "\n" not in str(stopped.value)


def test_a_new_run_takes_statistics_before_its_first_step(tmp_path: Path) -> None:
    model = fresh()
    model.head.image_mean.fill_(0.0)
    next(train(model, Stream(), RECIPE, tmp_path))
    assert model.head.has_statistics
    assert (model.head.image_std != 1).any()


def test_the_log_has_a_line_a_step(finished: Finished) -> None:
    lines = logged(finished.folder)
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    for line in lines:
        assert line["autoregressive"] > 0
        assert line["gradient_norm"] > 0
        assert line["pairs"] == RECIPE.batch_size
        assert line["tokens_per_second"] > 0


def old_rate_factor(step: int, config: TrainConfig) -> float:
    """What the first release computed itself: a linear rise, then a cosine down to a tenth."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))


def rates(config: TrainConfig, first_step: int = 0) -> list[float]:
    """Learning rates, as shares of the full, of a run that was resumed at a step."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    optimizer = torch.optim.AdamW([weight], lr=1.0)
    scheduler = build_scheduler(optimizer, config, first_step)
    shares = []
    for _ in range(first_step, config.steps):
        shares.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return shares


@pytest.mark.parametrize(("steps", "warmup_steps"), [(100, 10), (50, 0), (3, 1)])
def test_rates_rise_and_fall(steps: int, warmup_steps: int) -> None:
    config = TrainConfig(steps=steps, warmup_steps=warmup_steps)
    shares = rates(config)
    rise, fall = shares[:warmup_steps], shares[warmup_steps:]
    assert rise == pytest.approx(
        [old_rate_factor(step, config) for step in range(warmup_steps)]
    )
    # The library's cosine is one step ahead: the last step's rate is the tenth itself.
    ahead = range(warmup_steps + 1, steps + 1)
    assert fall == pytest.approx([old_rate_factor(step, config) for step in ahead])
    assert shares[-1] == pytest.approx(0.1)
    assert rates(config, 2) == pytest.approx(shares[2:])


def test_each_part_has_its_own_rate() -> None:
    config = TrainConfig(first_pass_lr=1e-4, second_pass_lr=2e-4, head_lr=3e-4)
    model = fresh()
    names = {parameter: name for name, parameter in model.trained_parameters()}
    groups = build_optimizer(model, config).param_groups
    for group in groups:
        in_group = [names[parameter] for parameter in group["params"]]
        if group["part"] == "head":
            assert not any("pass" in name for name in in_group)
        else:
            assert all(group["part"] in name for name in in_group)
    assert {group["part"]: group["lr"] for group in groups} == {
        "first_pass": 1e-4,
        "second_pass": 2e-4,
        "head": 3e-4,
    }
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_weight_decay_acts_on_matrices_alone() -> None:
    model = fresh()
    names = {parameter: name for name, parameter in model.trained_parameters()}
    free, decayed = set(), set()
    for group in build_optimizer(model, TrainConfig(weight_decay=0.1)).param_groups:
        for parameter in group["params"]:
            (decayed if group["weight_decay"] else free).add(names[parameter])
    assert all("lora" in name or name.endswith("weight") for name in decayed)
    assert all("lora" not in name for name in free)
    for part in (
        "summary",
        "logit_scale",
        "bias",
        "position_weights",
    ):
        assert any(part in name for name in free), part
        assert not any(part in name for name in decayed), part


def test_a_checkpoint_outlives_a_new_field_of_the_recipe(copy: Path) -> None:
    """Its recipe had that field's default."""
    path = copy / "checkpoint" / "state.json"
    state = json.loads(path.read_text())
    del state["recipe"]["gradient_checkpointing"]
    path.write_text(json.dumps(state))
    assert list(train(fresh(), Stream(), RECIPE, copy)) == []
    state["recipe"]["unknown"] = 1
    path.write_text(json.dumps(state))
    with pytest.raises(DataInvalid):
        next(train(fresh(), Stream(), RECIPE, copy))
