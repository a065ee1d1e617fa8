"""`precis info`: which service answers, and what it runs."""

from __future__ import annotations

from importlib.metadata import version

import click

from precis_client.commands.options import connected, shown
from precis_client.environment import KEY_REMEDY
from precis_client.errors import AccessDenied, ServiceBusy
from precis_client.retries import RetryPolicy
from precis_client.sync_client import Precis


@click.command()
@connected(in_collection=False, retries=RetryPolicy(attempts=1))
def info(precis: Precis) -> None:
    """Show which service answers, its model and its collections."""
    facts = {
        "client": f"precis-client {version('precis-client')}",
        "service": precis.url,
    }
    try:
        precis.check_ready()
    except ServiceBusy as error:
        facts["state"] = str(error)
    else:
        facts["state"] = "ready"
        facts |= _of_the_library(precis)
    for name, value in facts.items():
        click.echo(f"{name:<13}{shown(value)}")


def _of_the_library(precis: Precis) -> dict[str, str]:
    try:
        return {
            "model": ", ".join(precis.models()),
            "collections": ", ".join(precis.collections()) or "none",
        }
    except AccessDenied as error:
        return {"access": f"{error} {KEY_REMEDY}"}
