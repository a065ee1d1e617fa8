"""Runs the service with a fake model as a process of its own: python -m tests.service.fake_server
MODEL DATA_DIR.
"""

from __future__ import annotations

import sys
from pathlib import Path

from service.models import MODELS, Models
from service.server import run
from service.settings import Settings
from tests.fakes.model import fake_models


def _broken(_: Settings) -> Models:
    raise OSError("the weights are gone")


if __name__ == "__main__":
    MODELS.update(fake=fake_models, broken=_broken)
    run(Settings(model=sys.argv[1], data_dir=Path(sys.argv[2]), port=0))
