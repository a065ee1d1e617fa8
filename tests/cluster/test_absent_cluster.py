"""What the commands say where no cluster is running yet: first of all tests, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.errors import ClusterUnavailable

if TYPE_CHECKING:
    from service.cluster import control
else:
    control = pytest.importorskip("service.cluster.control")

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def no_trace_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray looks for the address of the last cluster of this machine in its folder."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


def test_there_is_no_cluster() -> None:
    with pytest.raises(ClusterUnavailable, match="`ray start --head` begins one"):
        control.state()


def test_what_is_left_of_a_cluster_does_not_answer(tmp_path: Path) -> None:
    address = tmp_path / "ray" / "ray_current_cluster"
    address.parent.mkdir()
    address.write_text("127.0.0.1:1")
    with pytest.raises(ClusterUnavailable, match="`ray stop` clears away"):
        control.state()


def test_ray_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control.ray, "__version__", "2.59.1")
    with pytest.raises(ClusterUnavailable, match=r"2\.59\.1 is installed.* 2\.60"):
        control.state()
