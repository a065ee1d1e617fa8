from __future__ import annotations

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need a CUDA device are skipped by name where there is none."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
