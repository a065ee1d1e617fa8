"""`precis cluster`: the service on a Ray cluster."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from index.registry import store_engine
from service.cluster.config import ClusterConfig, read_cluster_file
from service.errors import ClusterFailed, ClusterUnavailable
from service.remedies import library_errors
from service.runtime import store_place


@click.group()
def cluster() -> None:
    """Run the service on a Ray cluster (extra `cluster`)."""


@cluster.command()
@click.argument("file", type=click.Path(path_type=Path))
def up(file: Path) -> None:
    """Deploy the service as FILE says, or bring a running one up to date.

    On a machine of the cluster. Returns once the service is ready.
    """
    config = _checked_config(file)
    _loaded("service.cluster.control").up(config)
    click.echo(f"Running on port {config.http.port} of every node that serves.")


@cluster.command()
def status() -> None:
    """Show the deployments; exit status 1 unless all of it runs."""
    state = _loaded("service.cluster.control").state()
    click.echo(f"{state.status.lower().replace('_', ' ')}, {state.nodes} nodes")
    for deployment in state.deployments:
        shown = deployment.status.lower().replace("_", " ")
        click.echo(
            f"{deployment.name:<14}  {shown:<10}  {deployment.replicas} replicas"
        )
    if not state.is_running:
        raise ClusterFailed(state.message or "The service does not run.")


@cluster.command()
def down() -> None:
    """Remove the service from the cluster; its images stay in the store."""
    was_there = _loaded("service.cluster.control").down()
    click.echo("Removed." if was_there else "There was no service.")


@cluster.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True)
@click.option("--collection", help="Ingest into this collection.")
def ingest(file: Path, paths: tuple[str, ...], collection: str | None) -> None:
    """Ingest all pictures in PATHS, spread over the cluster that FILE describes.

    Folders, pictures, tar and Parquet shards, which all machines must reach by these paths, or
    URLs such as s3://BUCKET/FOLDER. Run it again after an interruption. Exit status 1 if a picture
    could not be stored.
    """
    config = _checked_config(file)
    module = _loaded("service.cluster.bulk_ingest")
    whole = [path if "://" in path else str(Path(path).absolute()) for path in paths]
    counts = Counter[str]()
    for picture in module.ingest(config, whole, collection):
        counts[picture.status] += 1
        if picture.status == "failed":
            click.echo(f"{picture.name}: {picture.reason}", err=True)
    click.echo(
        f"{counts['created']} created, {counts['exists']} there already,"
        f" {counts['failed']} failed"
    )
    if counts["failed"]:
        raise click.exceptions.Exit(1)


def _checked_config(file: Path) -> ClusterConfig:
    """The cluster's file, once its store answers.

    Raises ClusterFileInvalid, LibraryUnusable.
    """
    config = read_cluster_file(file)
    settings = config.service_settings()
    place = store_place(settings)
    with library_errors(settings):
        store_engine(place.setting).check(place)
    return config


def _loaded(module: str) -> Any:
    """A module that speaks to Ray. Raises ClusterUnavailable where Ray is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("ray", "pandas"):
            raise
        raise ClusterUnavailable(
            "A cluster needs the extra `cluster`: pip install 'precis-service[cluster]'"
        ) from error
