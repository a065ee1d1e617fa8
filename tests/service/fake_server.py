"""Runs `precis serve` with a fake model as a process of its own:
python -m tests.service.fake_server MODEL DATA_DIR.
"""

from __future__ import annotations

import sys

from precis_client.cli import main
from service.models import MODELS, Models
from service.settings import Settings
from tests.fakes.model import fake_models


def _broken(_: Settings) -> Models:
    raise OSError("the weights are gone")


if __name__ == "__main__":
    MODELS.update(fake=fake_models, broken=_broken)
    main(["serve", "--port", "0", "--model", sys.argv[1], "--data-dir", sys.argv[2]])
