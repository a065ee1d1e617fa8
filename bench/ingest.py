"""Images a second from files to durable records, beside what the first pass and the processor's
arithmetic allow.

(a) Through HTTP: the real server, the Python client with many requests in flight, new photographs
    in every round.
(b) The bare first pass: batches of decoded photographs in this process, nothing stored.
(c) Physical limit: the floating-point operations of that pass, counted while it runs (two for each
    multiplication and addition), over the rate of a large float32 matrix product. Between (b) and
    (c) lies work that is no matrix product (normalisation, softmax, depthwise convolutions,
    resizing) and smaller matrices; between (a) and (b) lie decoding, thumbnails, HTTP and the disk,
    as far as they do not overlap with the model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from PIL.Image import Image
from torch.utils.flop_counter import FlopCounterMode

from bench.measure import Figure, in_turn, median_ratio, report, seconds
from bench.photographs import jpegs, write_jpegs
from bench.serving import Command, precis_serve, serving
from compressor.ports import SummaryModel
from precis_client.ingestion import Ingestion
from precis_client.sync_client import Precis
from service.settings import Settings
from service.use_cases.images import decode

BATCH_SIZE = 16  # of the service, by default
IN_FLIGHT = 32  # requests, as `precis ingest` has


def run(
    model: SummaryModel,
    *,
    rounds: int = 3,
    photographs: int = 64,
    bare_photographs: int = 32,
    matrix_side: int = 2048,
    command: Command = precis_serve,
) -> None:
    """Measures (a), (b) and (c) in turn, `rounds` times, and reports."""
    decoded = decoded_photographs(bare_photographs)
    flops_per_image = count_flops(model, decoded[:BATCH_SIZE])
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder, "service"), command) as service,
    ):
        files = iter(
            [
                write_jpegs(Path(folder, f"round-{n}"), photographs, seed=n)
                for n in range(rounds)
            ]
        )

        def through_http() -> float:
            paths = next(files)
            return photographs / seconds(lambda: ingest(precis, paths))

        with Precis(service.url) as precis:
            # Both have been used once before they are measured; the bare pass was when it was
            # counted.
            ingest(
                precis,
                write_jpegs(
                    Path(folder, "warm-up"), min(photographs, BATCH_SIZE), seed=rounds
                ),
            )
            rates = in_turn(
                {
                    "http": through_http,
                    "bare": lambda: (
                        bare_photographs / seconds(lambda: in_batches(model, decoded))
                    ),
                    "flops": lambda: matrix_product_flops(matrix_side),
                },
                rounds,
            )
    limits = [rate / flops_per_image for rate in rates["flops"]]
    report(
        "ingest",
        [
            Figure("http_images_per_s", median(rates["http"])),
            Figure("bare_first_pass_images_per_s", median(rates["bare"])),
            Figure("arithmetic_limit_images_per_s", median(limits)),
            Figure("flops_an_image_g", flops_per_image / 1e9),
            Figure("matrix_product_gflops", median(rates["flops"]) / 1e9),
            Figure(
                "http_over_bare",
                median_ratio(rates["http"], rates["bare"]),
                at_least=0.95,
            ),
            Figure(
                "bare_over_limit", median_ratio(rates["bare"], limits), at_least=0.7
            ),
        ],
    )


def decoded_photographs(count: int) -> list[Image]:
    """As the service hands them to the model."""
    settings = Settings()
    return [
        decode(
            content,
            max_pixels=settings.max_image_pixels,
            max_side_px=settings.image_side_px,
        ).image
        for content in jpegs(count, seed=255)
    ]


def ingest(precis: Precis, paths: Sequence[Path]) -> None:
    """Sends new files; every one must be stored."""
    ingestion = Ingestion(precis, paths, most_in_flight=IN_FLIGHT)
    for outcome in ingestion.outcomes():
        assert outcome.status == "created", outcome.reason


def in_batches(model: SummaryModel, images: Sequence[Image]) -> None:
    """First pass in the service's batches."""
    for start in range(0, len(images), BATCH_SIZE):
        model.compress(images[start : start + BATCH_SIZE])


def count_flops(model: SummaryModel, images: Sequence[Image]) -> float:
    """Floating-point operations of one image's first pass, adapter, readout and retrieval head
    included.
    """
    with FlopCounterMode(display=False) as counter:
        model.compress(images)
    return counter.get_total_flops() / len(images)


def matrix_product_flops(side: int) -> float:
    """Operations a second of a float32 matrix product with `side` rows and columns; the median of
    several.
    """
    a, b = torch.rand(side, side), torch.rand(side, side)
    torch.mm(a, b)
    return 2 * side**3 / median(seconds(lambda: torch.mm(a, b)) for _ in range(7))


if __name__ == "__main__":
    from bench.default_model import load

    run(load().summary_model)
