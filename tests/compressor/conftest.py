from __future__ import annotations

import pytest

from compressor.fwd2bot.model import SummaryLvlm
from tests.compressor.tiny import tiny_model, trained


@pytest.fixture(scope="session")
def frozen_model() -> SummaryLvlm:
    """Shared by the tests that only read it."""
    model = trained(tiny_model())
    model.requires_grad_(False)
    return model


@pytest.fixture
def model() -> SummaryLvlm:
    """A test's own, adapters untrained."""
    return tiny_model()
