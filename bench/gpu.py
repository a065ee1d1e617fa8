"""The two passes on one GPU, each beside what the card itself allows.

(a) First pass: images a second at several batch sizes, from decoded photographs to summary tokens
    on the host, beside the pass's floating-point operations over the card's matrix rate.
(b) Second pass: tokens a second of greedy answers at several batch sizes, beside the rate at which
    the card's memory can deliver the weights that every step reads.

Both limits are measured in the same run: a large matrix product in the model's dtype, and a copy
within the card's memory. Runs on a CPU as well (`--device cpu`), to rehearse it; such figures say
nothing of a GPU.

    python -m bench.gpu                          the default model
    python -m bench.gpu --model-dir FOLDER       any LVLM in a folder, training-free
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import click
import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from bench.measure import Figure, report, seconds
from bench.photographs import jpegs
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.load import load_lvlm
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.placement import Placement
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import GenerationLimits, GenerationRequest, Turn

BATCH_SIZES = (1, 8, 64)
BATCH_WITH_BARS = 8
ANSWER_TOKENS = 64
PROMPT = "Describe the image in detail."


@dataclass(frozen=True)
class Limits:
    """What the device can do at most."""

    # floating-point operations a second of a matrix product in the model's dtype
    flops: float
    bytes_per_s: float  # read from memory: a copy reads and writes each byte once


@dataclass(frozen=True)
class Sizes:
    """How much a run measures; the least is enough to rehearse it."""

    batch_sizes: Sequence[int] = BATCH_SIZES
    answer_tokens: int = ANSWER_TOKENS
    rounds: int = 5
    matrix_side: int = 8192
    copied_bytes: int = 4 << 30


class EndlessGenerator(LvlmGenerator):
    """Answers that never end early, so that every step decodes the whole batch."""

    def __init__(self, model: SummaryLvlm) -> None:
        super().__init__(model)
        self._end_ids = frozenset()


def synchronized(
    work: Callable[[], object], device: torch.device
) -> Callable[[], None]:
    """`work`, waiting until the device has done it: CUDA kernels run after their call returns."""

    def run() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def median_seconds(
    work: Callable[[], object], device: torch.device, rounds: int
) -> float:
    """Median time of `work` after one call that warms caches and compiles kernels."""
    timed = synchronized(work, device)
    timed()
    return median(seconds(timed) for _ in range(rounds))


def device_limits(device: torch.device, dtype: torch.dtype, sizes: Sizes) -> Limits:
    """Rates of a matrix product and of a copy in the device's own memory."""
    side = sizes.matrix_side
    left, right = (
        torch.randn(side, side, device=device, dtype=dtype) for _ in range(2)
    )
    product_s = median_seconds(lambda: left @ right, device, sizes.rounds)
    source = torch.empty(sizes.copied_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = median_seconds(lambda: target.copy_(source), device, sizes.rounds)
    return Limits(
        flops=2 * side**3 / product_s, bytes_per_s=2 * sizes.copied_bytes / copy_s
    )


def first_pass_figures(
    model: SummaryLvlm, images: Sequence[Image.Image], limits: Limits, sizes: Sizes
) -> list[Figure]:
    """Images a second, and the share of the matrix rate that the pass reaches."""
    figures = []
    for batch_size in sizes.batch_sizes:
        batch = [images[number % len(images)] for number in range(batch_size)]
        summary_model = LvlmSummaryModel(
            model, fingerprint="bench", batch_size=batch_size
        )
        with FlopCounterMode(display=False) as counter:
            summary_model.compress(batch)
        compress = partial(summary_model.compress, batch)
        batch_s = median_seconds(compress, model.device, sizes.rounds)
        share = counter.get_total_flops() / limits.flops / batch_s
        figures += [
            Figure(f"first_pass_images_per_s_batch_{batch_size}", batch_size / batch_s),
            Figure(
                f"first_pass_share_of_matrix_rate_batch_{batch_size}",
                share,
                at_least=0.4 if batch_size == BATCH_WITH_BARS else None,
            ),
        ]
    return figures


def second_pass_figures(
    model: SummaryLvlm, limits: Limits, sizes: Sizes
) -> list[Figure]:
    """Tokens a second, prefill included, and the share of the memory's rate that they reach."""
    generator = EndlessGenerator(model)
    shape = (model.config.token_count, model.hidden_size)
    tokens = np.random.default_rng(0).normal(scale=0.02, size=shape).astype(np.float32)
    request = GenerationRequest([tokens], [Turn("user", PROMPT)])
    weight_bytes = decoder_bytes(model)
    figures = []
    for batch_size in sizes.batch_sizes:
        answer = partial(
            answer_all,
            generator,
            [request] * batch_size,
            [GenerationLimits(sizes.answer_tokens)] * batch_size,
        )
        answer_s = median_seconds(answer, model.device, sizes.rounds)
        tokens_per_s = batch_size * sizes.answer_tokens / answer_s
        # Every step reads all weights once, whatever the batch.
        limit_per_s = batch_size * limits.bytes_per_s / weight_bytes
        figures += [
            Figure(f"second_pass_tokens_per_s_batch_{batch_size}", tokens_per_s),
            Figure(
                f"second_pass_share_of_memory_rate_batch_{batch_size}",
                tokens_per_s / limit_per_s,
                at_least=0.5 if batch_size == BATCH_WITH_BARS else None,
            ),
        ]
    return figures


def answer_all(
    generator: LvlmGenerator,
    requests: Sequence[GenerationRequest],
    limits: Sequence[GenerationLimits],
) -> None:
    """Decodes all answers to their limits."""
    for _ in generator.generate(requests, limits):
        pass


def decoder_bytes(model: SummaryLvlm) -> int:
    """Bytes of weights that one decoding step reads: the decoder's, and the output head's."""
    parts = (model.base.get_decoder(), model.base.get_output_embeddings())
    weights = {id(weight): weight for part in parts for weight in part.parameters()}
    return sum(weight.numel() * weight.element_size() for weight in weights.values())


def run(model: SummaryLvlm, sizes: Sizes) -> None:
    """Measures the device's limits and both passes, and reports."""
    weight = (
        model.embedding.words.weight
    )  # of the base model: what is trained stays float32
    limits = device_limits(weight.device, weight.dtype, sizes)
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in jpegs(16)]
    figures = [
        Figure("matrix_rate_tflops", limits.flops / 1e12),
        Figure("memory_rate_gb_per_s", limits.bytes_per_s / 1e9),
        *first_pass_figures(model, images, limits, sizes),
        *second_pass_figures(model, limits, sizes),
    ]
    if weight.device.type == "cuda":
        figures.append(
            Figure("memory_peak_gb", torch.cuda.max_memory_allocated() / 1e9)
        )
    report("gpu", figures, accelerator=f"{device_name(weight.device)}, {weight.dtype}")


def device_name(device: torch.device) -> str:
    """The card's name, or the device's own."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(device)


@click.command(help=__doc__)
@click.option("--model-dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option("--dtype", default="auto", help="auto, float32, bfloat16 or float16.")
@click.option("--rehearse", is_flag=True, help="The least that runs every line.")
def main(model_dir: Path | None, device: str, dtype: str, rehearse: bool) -> None:
    """Loads the model and measures."""
    placement = Placement(device, dtype)
    if model_dir is None:
        from compressor.default_model.build import load_lvlm as load_default
        from service.settings import Settings

        model = load_default(Settings().model_dir, placement=placement)
    else:
        model = load_lvlm(model_dir, adapters=None, placement=placement)
    least = Sizes(
        batch_sizes=(1, 2),
        answer_tokens=4,
        rounds=1,
        matrix_side=256,
        copied_bytes=1 << 20,
    )
    run(model, least if rehearse else Sizes())


if __name__ == "__main__":
    main()
