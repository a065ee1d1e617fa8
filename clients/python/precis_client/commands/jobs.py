"""`precis jobs`: imports from the service's own disk."""

from __future__ import annotations

import click

from precis_client.commands.options import as_json_option, connected, print_json, shown
from precis_client.results import Job
from precis_client.sync_client import Precis


@click.group()
def jobs() -> None:
    """Import pictures from the service's own disk, and look after the jobs that do."""


@jobs.command("import")
@click.argument("path")
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    help="Summary tokens to keep. [default: all]",
)
@as_json_option
@connected()
def import_pictures(
    precis: Precis, path: str, tokens: int | None, as_json: bool
) -> None:
    """Begin to import PATH, which is below the service's PRECIS_IMPORT_DIR.

    PATH is a picture, a folder, a tar or a Parquet file, or `.` for the whole folder. The service
    goes on by itself; `precis jobs show` tells how far it is.
    """
    _print(precis.import_pictures(path, tokens=tokens), as_json)


@jobs.command("list")
@as_json_option
@connected()
def list_jobs(precis: Precis, as_json: bool) -> None:
    """List the jobs, newest first: id, state, files by status, and the path of an import."""
    for job in precis.jobs():
        if as_json:
            print_json(job)
        else:
            path = "" if job.path is None else shown(job.path)
            counts = _counts(job.counts)
            click.echo(f"{job.id}  {job.state:<9}  {counts}  {path}".rstrip())


@jobs.command()
@click.argument("job_id", metavar="ID")
@as_json_option
@connected()
def show(precis: Precis, job_id: str, as_json: bool) -> None:
    """Show where a job stands, and the files that failed."""
    _print(precis.job(job_id), as_json)


@jobs.command()
@click.argument("job_id", metavar="ID")
@connected()
def cancel(precis: Precis, job_id: str) -> None:
    """Cancel the rest of a job; images that are already stored remain."""
    precis.cancel_job(job_id)
    click.echo(f"cancelled {shown(job_id)}")


def _print(job: Job, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    facts = {"id": job.id, "state": job.state}
    if job.path is not None:
        facts["path"] = shown(job.path)
    facts["files"] = _counts(job.counts) or "not counted yet"
    if job.passed_over:
        facts["passed over"] = _counts(job.passed_over)
    if job.files_per_s is not None:
        facts["speed"] = f"{job.files_per_s:.2f} files/s"
    if job.remaining_s:
        facts["time left"] = f"{job.remaining_s:.0f} s"
    for name, value in facts.items():
        click.echo(f"{name:<13}{value}")
    for file in job.files:
        if file.error is not None:
            click.echo(f"{shown(file.filename)}: {shown(file.error.detail)}", err=True)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {shown(name)}" for name, count in counts.items())
