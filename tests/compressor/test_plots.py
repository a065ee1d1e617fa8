"""Plots are pictures with something in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from compressor import plots


def inked(path: Path) -> float:
    """Share of the picture that is not white."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return float((np.asarray(image.convert("L")) < 250).mean())


def test_losses_over_steps(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    line = {"autoregressive": 1.0, "contrastive": 0.0, "distillation": 2.0}
    log.write_text(
        "".join(
            json.dumps({"step": step, **line}) + "\n" for step in (0, 1, 2, 1, 2, 3)
        )
    )
    plots.losses(log, tmp_path / "two.png")
    log.write_text(json.dumps({"step": 0, **line, "distillation": 0.0}) + "\n")
    plots.losses(log, tmp_path / "one.png")
    assert inked(tmp_path / "two.png") > 0.01
    with (
        Image.open(tmp_path / "two.png") as two,
        Image.open(tmp_path / "one.png") as one,
    ):
        assert two.height > one.height  # a loss that was not used has no plot


def test_a_whole_log_has_a_panel_for_all_it_holds(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = []
    for step in range(4):
        lr = {"first_pass": 1e-4, "head": 1e-3 * step}
        line = {
            "step": step,
            "autoregressive": 2.0,
            "contrastive": None,
            "pairs": 1,
            "lr": lr,
        }
        line |= {
            "eval_autoregressive": 2.5 if step == 3 else None,
            "samples_per_second": 3.0,
        }
        lines.append(json.dumps(line) + "\n")
    log.write_text("".join(lines))
    plots.losses(log, tmp_path / "whole.png")
    log.write_text(json.dumps({"step": 0, "autoregressive": 2.0}) + "\n")
    plots.losses(log, tmp_path / "one.png")
    heights = {}
    for name in ("whole", "one"):
        with Image.open(tmp_path / f"{name}.png") as image:
            heights[name] = image.height
    assert heights == {"whole": 1100, "one": 350}  # four panels and one
    assert inked(tmp_path / "whole.png") > 0.01


def test_a_bar_for_each_figure(tmp_path: Path) -> None:
    plots.figures(
        {"naming": {"percent": 75.0}, "counting": {"percent": 20.0}},
        tmp_path / "figures.png",
    )
    assert inked(tmp_path / "figures.png") > 0.02


def test_a_field_for_each_figure_against_bytes(tmp_path: Path) -> None:
    answers = [("fp16", 9000.0, {"right": 80.0}), ("sq4", 2000.0, {"right": 70.0})]
    plots.rates(answers, tmp_path / "one.png")
    plots.rates(
        [(*each[:2], {**each[2], "R@1": 20.0}) for each in answers],
        tmp_path / "two.png",
    )
    with (
        Image.open(tmp_path / "two.png") as two,
        Image.open(tmp_path / "one.png") as one,
    ):
        assert two.height > one.height
    assert inked(tmp_path / "one.png") > 0.01


def test_reliability_has_a_panel_for_each_curve(tmp_path: Path) -> None:
    of_labels = [plots.Bin(0.1, 0.2, 40), plots.Bin(0.9, 0.8, 7)]
    plots.reliability({"labels": of_labels}, tmp_path / "one.png")
    both = {"labels": of_labels, "answers": of_labels[:1]}
    plots.reliability(both, tmp_path / "two.png")
    assert inked(tmp_path / "two.png") > 0.01
    with (
        Image.open(tmp_path / "two.png") as two,
        Image.open(tmp_path / "one.png") as one,
    ):
        assert two.width > one.width


def test_margins_have_a_panel_for_each_figure(tmp_path: Path) -> None:
    mean = plots.Margin(3.0, 0.5, (2.8, 3.2))
    plots.margins({"loss": {"one": mean, "other": mean}}, tmp_path / "one.png")
    both = {"loss": {"one": mean, "other": mean}, "recall": {"one": mean}}
    plots.margins(both, tmp_path / "two.png")
    assert inked(tmp_path / "two.png") > 0.005
    with (
        Image.open(tmp_path / "two.png") as two,
        Image.open(tmp_path / "one.png") as one,
    ):
        assert two.height == 2 * one.height
