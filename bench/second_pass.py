"""The engines of the second pass beside each other: PyTorch, ONNX Runtime in float32 and in int8.

The same stored images and questions, one engine after the other. A token's time is that of an
answer behind its first token, by the tokens that came; eight askers are one call of eight requests.
Busy: two processes that burn a core each run beside. Physical limit: each token of one asker reads
every weight once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from bench.ask import open_picture
from bench.default_model import Model
from bench.measure import Figure, in_turn, median_ratio, report, seconds
from bench.photographs import NAMES, jpegs
from compressor.default_model.build import KEPT_TOKENS
from compressor.fwd2bot.engines import EXPORTED_AS, SECOND_PASS_ENGINES
from compressor.fwd2bot.generator import whole_answers
from compressor.fwd2bot.onnx_engine.export import export
from compressor.ports import GenerationLimits, GenerationRequest, Generator, Turn

ASKERS = 8
LONG = "Describe this picture in two sentences."
QUESTIONS = (LONG, "What is in the image?", "Is there a cat?", "What color is it?")
LIMITS = GenerationLimits(max_tokens=32)
# Cores that are busy with something else.
NEIGHBOURS = 2


def run(model: Model, *, rounds: int = 15, pictures: int = len(NAMES)) -> None:
    """Measures `rounds` answers of each engine and reports."""
    images = [open_picture(content) for content in jpegs(pictures)]
    summary = model.summary_model.compress(images)
    tokens = [each[:KEPT_TOKENS] for each in summary.tokens]
    with tempfile.TemporaryDirectory() as folder:
        engines = load_engines(model, Path(folder))
        requests = [GenerationRequest([each], [Turn("user", LONG)]) for each in tokens]
        one = {
            name: timed(generator, [[request] for request in requests])
            for name, generator in engines.items()
        }
        crowd = list(islice(cycle(requests), ASKERS))
        many = {name: timed(generator, [crowd]) for name, generator in engines.items()}
        for measure in one.values():  # warms up
            measure()
        alone = in_turn(one, rounds)
        together = in_turn(many, max(rounds // 3, 1))
        whole = {
            name: whole_answer(generator, requests)
            for name, generator in engines.items()
        }
        quiet = in_turn(whole, rounds)
        with busy_neighbours():
            busy = in_turn(whole, rounds)
        same = same_answers(engines, tokens)
    figures = []
    for name in engines:
        per_token, at_once = median(alone[name]), median(together[name])
        label = name.replace("-", "_")
        figures += [
            Figure(f"{label}_ms_a_token", 1e3 * per_token),
            Figure(
                f"{label}_eight_askers_over_one",
                per_token / at_once,
                at_least=None if name == "torch" else 3,
            ),
            Figure(
                f"{label}_busy_p95_over_quiet",
                p95(busy[name]) / median(quiet[name]),
                at_most=None if name == "torch" else 4,
            ),
            Figure(f"{label}_same_answers_percent", 100 * same[name]),
        ]
    figures += [
        Figure(
            "torch_over_onnx_int8",
            median_ratio(alone["torch"], alone["onnx-int8"]),
            at_least=6,
        ),
        Figure(
            "torch_over_onnx", median_ratio(alone["torch"], alone["onnx"]), at_least=3
        ),
    ]
    report("second_pass", figures)


def load_engines(model: Model, folder: Path) -> dict[str, Generator]:
    """Every engine but `auto`, over exports made in `folder`. None keeps earlier prompts."""
    fingerprint = model.summary_model.fingerprint
    for precision in EXPORTED_AS.values():
        export(model.lvlm, fingerprint, folder, precision)
    return {
        name: SECOND_PASS_ENGINES[name](model.generator, fingerprint, folder, 0, None)
        for name in ("torch", *EXPORTED_AS)
    }


def timed(
    generator: Generator, calls: list[list[GenerationRequest]]
) -> Callable[[], float]:
    """Seconds a token behind the first of all answers, of one call after the other."""
    source = cycle(calls)

    def measure() -> float:
        requests = next(source)
        tokens = dict.fromkeys(range(len(requests)), 0)
        started, first_tokens = 0.0, 0
        for piece in generator.generate(requests, [LIMITS] * len(requests)):
            tokens[piece.request] = piece.completion_tokens
            if not started and all(tokens.values()):
                started, first_tokens = perf_counter(), sum(tokens.values())
        written = sum(tokens.values()) - first_tokens
        return (perf_counter() - started) / max(written, 1)

    return measure


def whole_answer(
    generator: Generator, requests: list[GenerationRequest]
) -> Callable[[], float]:
    """Seconds of a whole answer, of one request after the other."""
    source = cycle(requests)
    return lambda: seconds(lambda: whole_answers(generator, [next(source)], [LIMITS]))


def same_answers(
    engines: Mapping[str, Generator], tokens: list[NDArray[np.float32]]
) -> dict[str, float]:
    """The share of greedy answers that are those of PyTorch, letter by letter."""
    answers = {}
    for name, generator in engines.items():
        requests = [
            GenerationRequest([each], [Turn("user", question)])
            for each in tokens
            for question in QUESTIONS
        ]
        answers[name] = [
            whole_answers(generator, [request], [LIMITS])[0] for request in requests
        ]
    return {
        name: sum(
            ours == theirs for ours, theirs in zip(given, answers["torch"], strict=True)
        )
        / len(given)
        for name, given in answers.items()
    }


def p95(values: list[float]) -> float:
    """The 95th percentile; the largest of few values."""
    return quantiles(values, n=20)[-1] if len(values) > 20 else max(values)


@contextmanager
def busy_neighbours() -> Iterator[None]:
    """Processes that burn a core each, until the block ends."""
    burn = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(burn) for _ in range(NEIGHBOURS)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    from bench.default_model import load

    run(load())
