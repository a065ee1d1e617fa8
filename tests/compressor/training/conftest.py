from __future__ import annotations

import pytest

from compressor.fwd2bot.model import SummaryLvlm
from tests.compressor.tiny import trained
from tests.compressor.training.samples import tiny_lvlm


@pytest.fixture(scope="session")
def frozen_model() -> SummaryLvlm:
    """Shared by the tests that only read it."""
    model = trained(tiny_lvlm())
    model.requires_grad_(False)
    return model


@pytest.fixture
def model() -> SummaryLvlm:
    """A test's own, adapters untrained."""
    return tiny_lvlm()
