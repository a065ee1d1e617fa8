"""`precis collections`: separate libraries in one service."""

from __future__ import annotations

import click

from precis_client.commands.options import connected, shown
from precis_client.sync_client import Precis


@click.group()
def collections() -> None:
    """List, create and delete collections: separate libraries in one service.

    The other commands work in one with --collection NAME.
    """


@collections.command("list")
@connected(in_collection=False)
def list_collections(precis: Precis) -> None:
    """List the names of all collections."""
    for name in precis.collections():
        click.echo(shown(name))


@collections.command()
@click.argument("name")
@connected(in_collection=False)
def create(precis: Precis, name: str) -> None:
    """Create an empty collection."""
    precis.create_collection(name)
    click.echo(f"created {shown(name)}")


@collections.command()
@click.argument("name")
@click.confirmation_option(prompt="Delete the collection with all its images?")
@connected(in_collection=False)
def delete(precis: Precis, name: str) -> None:
    """Delete a collection with all its images."""
    precis.delete_collection(name)
    click.echo(f"deleted {shown(name)}")
