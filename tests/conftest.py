from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.cluster.ray_cluster import ENVIRONMENT, RayCluster, running_ray_cluster

# A slow example tells of the machine's load, not of the code. With a deadline of 200 ms Hypothesis
# also fails a test whose first ten examples together take more than a second to make.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need a CUDA device are skipped by name where there is none."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """A cluster of two nodes for all tests of a run, in a network of its own."""
    names = {name for _, name in socket.if_nameindex()}
    assert names == {"lo"}, "run by `make test-cluster`, in a network of its own"
    with (
        pytest.MonkeyPatch.context() as patch,
        # Ray's sockets are below it, and their paths must be short.
        tempfile.TemporaryDirectory(
            prefix="ray-", ignore_cleanup_errors=True
        ) as folder,
        running_ray_cluster(Path(folder)) as cluster,
    ):
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield cluster
