"""Ingests folders and shards on a cluster: Ray Data reads and spreads them, workers put them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import ray
from ray.data import DataContext

from service.cluster.config import ClusterConfig
from service.cluster.control import connected
from service.cluster.entry import gpus_there_are
from service.cluster.ingest_worker import Ingested, IngestWorker, read_pictures
from service.cluster.ray_replicas import claim_model
from service.errors import InvalidOption
from service.models import ModelFactory, load_models
from service.use_cases.import_source import import_suffixes


def ingest(
    config: ClusterConfig,
    paths: Sequence[str],
    collection: str | None = None,
    make_models: ModelFactory = load_models,
) -> Iterator[Ingested]:
    """Ingests all pictures below the paths, or URLs of an object store; outcomes as they come.

    A content that is stored already costs no work, so that a rerun goes on where the last one
    ended. Raises InvalidOption, ClusterFileInvalid, ClusterUnavailable.
    """
    settings = config.service_settings()
    scaling = config.first_pass
    suffixes = sorted(suffix.removeprefix(".") for suffix in import_suffixes())
    with connected():
        DataContext.get_current().enable_progress_bars = False
        gpus = gpus_there_are() if scaling.gpus is None else scaling.gpus
        try:
            files = ray.data.read_binary_files(
                list(paths), include_paths=True, file_extensions=suffixes
            )
        except (FileNotFoundError, ValueError) as error:
            # Ray's own words: a path that is not there, or has no such file below it.
            raise InvalidOption(" ".join(str(error).split())) from error
        outcomes = files.flat_map(
            partial(read_pictures, max_bytes=settings.max_upload_bytes)
        ).map_batches(
            IngestWorker,
            fn_constructor_args=(config, make_models, gpus, collection, claim_model),
            batch_size=min(settings.batch_size, settings.queue_size),
            concurrency=(scaling.min_replicas, scaling.most),
            num_cpus=scaling.cpus,
            num_gpus=gpus,
        )
        for row in outcomes.iter_rows():
            yield Ingested(row["name"], row["status"], row["reason"])
