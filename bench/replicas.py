"""Images a second of a service on a Ray cluster with one, two and four replicas of the first pass.

The model only sleeps, half a second for each image, so that its time grows with nothing but the
images, and any number of replicas fit on one machine. What is measured is all that lies around it:
HTTP, decoding, Ray's calls, the shared store. Physical limit: two images a second for each replica.

It takes the Ray cluster that this machine is part of (`make bench-cluster` starts one). Four
clients for each replica upload noise; a rate leaves out the first and the last acknowledgements of
a round, one for each client, while the queue fills and empties.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from bench.measure import Figure, in_turn, report
from compressor.ports import ModelDescription, Piece, Summary
from precis_client.sync_client import Precis
from precis_client.uploads import PictureUpload
from service.cluster import control
from service.cluster.config import ClusterConfig, cluster_config
from service.models import Models

REPLICAS = (1, 2, 4)
SLEEP_S = 0.5  # for each image
HOST, PORT = "127.0.0.1", 8000
CLIENTS_PER_REPLICA = 4  # one image in work, one that waits, two on their way
TOKENS_SHAPE, EMBEDDING_SIZE = (8, 64), 64


class SleepingModel:
    """A SummaryModel whose time is sleep."""

    fingerprint = hashlib.sha256(b"sleeping model").hexdigest()
    description = ModelDescription("sleep", "adapters", (TOKENS_SHAPE[0],))
    tokens_shape = TOKENS_SHAPE
    embedding_size = EMBEDDING_SIZE

    def compress(self, images: Sequence[Image.Image]) -> Summary:
        """See SummaryModel."""
        time.sleep(SLEEP_S * len(images))
        tokens = np.zeros((len(images), *TOKENS_SHAPE), np.float32)
        return Summary(tokens, self._embeddings(len(images)))

    def embed_text(self, texts: Sequence[str]) -> Any:
        """See SummaryModel."""
        return self._embeddings(len(texts))

    def _embeddings(self, number: int) -> Any:
        embeddings = np.zeros((number, EMBEDDING_SIZE), np.float32)
        embeddings[:, 0] = 1
        return embeddings


class SilentGenerator:
    """A Generator that says nothing."""

    def generate(self, requests: Sequence[Any], limits: Sequence[Any]) -> Iterator[Any]:
        """See Generator."""
        for number, _ in enumerate(zip(requests, limits, strict=True)):
            yield Piece(number, "", 1, 0, "stop", 1.0)


def sleeping_models(_: object) -> Models:
    """A model factory."""
    return Models(SleepingModel(), SilentGenerator())


def config(folder: Path, replicas: int) -> ClusterConfig:
    """A cluster with so many replicas of the first pass, each of which works image by image."""
    settings = {
        "store": f"lance://{folder / 'lance'}",
        "data_dir": str(folder / "data"),
        "batch_size": 1,
    }
    return cluster_config(
        {
            "settings": settings,
            "http": {"host": HOST, "port": PORT},
            "first_pass": {"min_replicas": replicas, "gpus": 0},
        }
    )


def run(*, rounds: int = 3, images_per_replica: int = 40) -> None:
    """Measures each number of replicas in turn, `rounds` times, and reports."""
    numbers = count()
    with tempfile.TemporaryDirectory() as folder:

        def rate(replicas: int) -> float:
            control.up(config(Path(folder), replicas), sleeping_models)
            return images_per_s(replicas, images_per_replica * replicas, numbers)

        try:
            rates = in_turn(
                {str(each): lambda each=each: rate(each) for each in REPLICAS}, rounds
            )
        finally:
            control.down()
    medians = {name: median(each) for name, each in rates.items()}
    figures = [
        Figure(f"images_per_s_with_{name}", value) for name, value in medians.items()
    ]
    figures += [
        Figure(
            f"share_of_linear_with_{each}",
            medians[str(each)] / (each * medians[str(REPLICAS[0])]),
            at_least=0.85,
        )
        for each in REPLICAS[1:]
    ]
    report("replicas", figures)


def images_per_s(replicas: int, images: int, numbers: Iterator[int]) -> float:
    """The rate of acknowledgements, from the moment when every replica has given a few."""
    clients = CLIENTS_PER_REPLICA * replicas
    uploads = [PictureUpload("noise.png", noise(next(numbers))) for _ in range(images)]
    with (
        Precis(f"http://{HOST}:{PORT}", timeout_s=600) as precis,
        ThreadPoolExecutor(clients) as threads,
    ):

        def acknowledged_at(upload: PictureUpload) -> float:
            precis.add(upload)
            return time.perf_counter()

        times = sorted(threads.map(acknowledged_at, uploads))
    # The first ones had an empty queue before them, the last ones none behind.
    counted = times[clients : images - clients] or times
    return (len(counted) - 1) / (counted[-1] - counted[0])


def noise(seed: int) -> bytes:
    """The PNG of a picture like no other."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    run()
