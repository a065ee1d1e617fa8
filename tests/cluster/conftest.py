"""A cluster of two nodes for all tests of a run, and the service on it."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.ray_cluster import ENVIRONMENT, RayCluster, running_ray_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
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
