"""What the commands say where no cluster is running yet: first of all tests, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.errors import ClusterUnavailable

if TYPE_CHECKING:
    from service.cluster import control
else:
    control = pytest.importorskip("service.cluster.control")

pytestmark = pytest.mark.cluster


def test_there_is_no_cluster() -> None:
    with pytest.raises(ClusterUnavailable, match="`ray start --head` begins one"):
        control.state()


def test_ray_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control.ray, "__version__", "2.59.1")
    with pytest.raises(ClusterUnavailable, match=r"2\.59\.1 is installed.* 2\.60"):
        control.state()
