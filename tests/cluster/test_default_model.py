"""A bulk ingest with the default model, one of whose two nodes is killed and comes back."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.photographs import write_jpegs
from service.cluster.config import ClusterConfig, cluster_config
from service.models import load_models
from tests.cluster.ray_cluster import RayCluster
from tests.cluster.stored_images import id_of, stored_ids

if TYPE_CHECKING:
    from service.cluster import bulk_ingest
    from service.cluster.ingest_worker import Ingested
else:
    bulk_ingest = pytest.importorskip("service.cluster.bulk_ingest")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.long,
    # Ray Data warns of its own options.
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\."),
]

log = logging.getLogger(__name__)

PHOTOGRAPHS = 2000
KILLED_AFTER, BACK_AFTER = 500, 1000  # outcomes


def config(folder: Path) -> ClusterConfig:
    """One worker on each node."""
    settings = {
        "store": f"lance://{folder / 'lance'}",
        "data_dir": str(folder / "data"),
    }
    return cluster_config({"settings": settings, "first_pass": {"min_replicas": 2}})


def test_two_thousand_photographs(cluster: RayCluster, tmp_path: Path) -> None:
    cluster.mend()
    paths = write_jpegs(tmp_path / "photographs", PHOTOGRAPHS)
    outcomes = bulk_ingest.ingest(config(tmp_path), [str(paths[0].parent)])
    seen = counted(outcomes, "two nodes", KILLED_AFTER)
    cluster.kill_node()
    seen += counted(outcomes, "one node", BACK_AFTER - KILLED_AFTER)
    cluster.mend()
    seen += counted(outcomes, "two nodes again", None)
    assert seen.keys() <= {"created", "exists"}
    assert seen.total() == PHOTOGRAPHS
    again = bulk_ingest.ingest(config(tmp_path), [str(paths[0].parent)])
    assert counted(again, "a rerun", None) == {"exists": PHOTOGRAPHS}
    summary = load_models(config(tmp_path).model_settings(0)).summary
    assert sorted(stored_ids(tmp_path, summary)) == sorted(
        id_of(path.read_bytes()) for path in paths
    )


def counted(outcomes: Iterator[Ingested], name: str, most: int | None) -> Counter[str]:
    """How the next outcomes ended; their rate goes into the log."""
    started = time.perf_counter()
    seen = Counter(outcome.status for outcome in islice(outcomes, most))
    rate = seen.total() / (time.perf_counter() - started)
    log.info("%s: %d images, %.2f a second", name, seen.total(), rate)
    return seen
