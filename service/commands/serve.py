"""`precis serve`: runs the service."""

from __future__ import annotations

from typing import Any

import click

from service.commands.flags import settings_flags, settings_from_flags
from service.remedies import library_errors


@click.command()
@settings_flags()
def serve(**flags: Any) -> None:
    """Run the service."""
    settings = settings_from_flags(flags)
    from service.server import run

    with library_errors(settings):
        run(settings)
