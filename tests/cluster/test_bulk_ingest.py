"""A bulk ingest on two nodes, one of which is killed in the middle; and its rerun."""

from __future__ import annotations

import io
import tarfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL.Image import Image

from compressor.ports import Summary
from service.cluster.config import ClusterConfig, cluster_config
from service.errors import InvalidOption
from service.models import Models
from service.settings import Settings
from tests.cluster.pictures import noise
from tests.cluster.ray_cluster import RayCluster
from tests.cluster.stored_images import id_of, stored_ids
from tests.fakes.model import FakeGenerator, FakeSummaryModel, fake_models

if TYPE_CHECKING:
    from service.cluster import bulk_ingest
else:
    bulk_ingest = pytest.importorskip("service.cluster.bulk_ingest")

pytestmark = [
    pytest.mark.cluster,
    # Ray Data warns of its own options.
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\."),
]

IN_FOLDER, IN_TAR = 60, 20


class SlowModel(FakeSummaryModel):
    """Takes a while for each image, so that a node can be killed meanwhile."""

    def compress(self, images: Sequence[Image]) -> Summary:
        """See SummaryModel."""
        threading.Event().wait(0.3 * len(images))
        return super().compress(images)


def slow_models(_: Settings) -> Models:
    return Models(SlowModel(), FakeGenerator())


def config(folder: Path) -> ClusterConfig:
    settings = {
        "store": f"lance://{folder / 'lance'}",
        "data_dir": str(folder / "data"),
        "batch_size": 4,
    }
    return cluster_config({"settings": settings, "first_pass": {"min_replicas": 2}})


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, bytes]:
    """Pictures in a folder and in a tar within it, by name; and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    contents = {f"{number}.png": noise(number) for number in range(IN_FOLDER + IN_TAR)}
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for number, (name, data) in enumerate(contents.items()):
            if number < IN_FOLDER:
                (folder / name).write_bytes(data)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    (folder / "broken.png").write_bytes(b"no picture")
    return contents


def test_a_node_killed_in_the_middle_costs_no_picture(
    cluster: RayCluster, tmp_path: Path, pictures: dict[str, bytes]
) -> None:
    cluster.mend()
    paths = [str(tmp_path / "pictures")]
    seen: Counter[str] = Counter()
    for outcome in bulk_ingest.ingest(config(tmp_path), paths, None, slow_models):
        seen[outcome.status] += 1
        if seen.total() == 8:
            cluster.kill_node()
    assert seen["failed"] == 1
    assert seen["created"] + seen["exists"] == len(pictures)
    rerun = Counter(
        outcome.status
        for outcome in bulk_ingest.ingest(config(tmp_path), paths, None, fake_models)
    )
    assert rerun == {"exists": len(pictures), "failed": 1}
    stored = stored_ids(tmp_path, FakeSummaryModel())
    assert sorted(stored) == sorted(map(id_of, pictures.values()))


def test_a_path_that_is_not_there(cluster: RayCluster, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="absent"):
        list(bulk_ingest.ingest(config(tmp_path), [str(tmp_path / "absent")]))
