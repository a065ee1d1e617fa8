"""The engines of the first pass beside each other: PyTorch, and ONNX Runtime in float32.

The same photographs in the same batches, decoded before; one engine after the other. Towers,
readout and retrieval head run in PyTorch with both. Physical limit: every weight of the language
model is multiplied by every token of the prompt (`bench.ingest` compares with the rate of the
machine's matrix products).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from statistics import median

import numpy as np
from PIL.Image import Image

from bench.ask import open_picture
from bench.default_model import Model
from bench.measure import Figure, in_turn, median_ratio, report, seconds
from bench.photographs import jpegs
from compressor.fwd2bot.engines import FIRST_PASS_ENGINES
from compressor.fwd2bot.onnx_engine.export import export_first_pass
from compressor.ports import SummaryModel

BATCH = 8


def run(model: Model, *, rounds: int = 9, batch: int = BATCH) -> None:
    """Measures `rounds` batches with each engine and reports."""
    photographs = [open_picture(content) for content in jpegs(2 * batch)]
    in_torch = model.summary_model
    with tempfile.TemporaryDirectory() as folder:
        export_first_pass(model.lvlm, in_torch.fingerprint, Path(folder))
        on_onnx = FIRST_PASS_ENGINES["onnx"](in_torch, Path(folder))
        engines: dict[str, SummaryModel] = {"torch": in_torch, "onnx": on_onnx}
        measurements = {
            name: timed(engine, photographs, batch) for name, engine in engines.items()
        }
        in_turn(measurements, rounds=1)  # warms up
        taken = in_turn(measurements, rounds)
        theirs, ours = (
            engine.compress(photographs[:batch]).tokens for engine in engines.values()
        )
    figures = [
        Figure(f"{name}_images_a_second", batch / median(taken[name]))
        for name in engines
    ]
    figures += [
        Figure(
            "onnx_over_torch",
            median_ratio(taken["torch"], taken["onnx"]),
            at_least=2,
        ),
        Figure(
            "largest_difference_over_std",
            float(np.abs(ours - theirs).max() / theirs.std()),
            at_most=1e-2,
        ),
    ]
    report("first_pass", figures)


def timed(
    engine: SummaryModel, photographs: list[Image], batch: int
) -> Callable[[], float]:
    """Seconds of one batch after the other."""
    batches = cycle([photographs[:batch], photographs[batch:]])
    return lambda: seconds(lambda: engine.compress(next(batches)))


if __name__ == "__main__":
    from bench.default_model import load

    run(load())
