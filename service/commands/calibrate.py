"""`precis calibrate`: fits the curve from a model's scores to probabilities on photographs and the
texts about them.

Knows nothing of libraries. The curve speaks of a library like the one it was fitted on: one match
among all its images.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from compressor.default_model.data import photos as photographs
from compressor.default_model.evaluation import heldout
from compressor.default_model.evaluation.heldout import RetrievalSet
from compressor.errors import CompressorError
from compressor.evaluation.scores import image_embeddings
from compressor.ports import SummaryModel
from index.calibration import fit_calibration, write_calibration
from index.errors import LibraryError
from service.commands.flags import settings_from_flags
from service.errors import ServiceError
from service.models import model_factory


@click.command()
@click.option(
    "--photos",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="With index.jsonl.",
)
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def calibrate(photos: Path, target: Path) -> None:
    """Fit the curve on held-out photographs and write it to TARGET (JSON)."""
    try:
        found = photographs.read(photos)
        settings = settings_from_flags({})
        model = model_factory(settings.model)(settings).summary
        scores, matches = pairs(
            model, [heldout.label_retrieval(found), heldout.caption_retrieval(found)]
        )
        curve = fit_calibration(model.fingerprint, scores, matches)
        write_calibration(curve, target)
    except (CompressorError, LibraryError, ServiceError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"probability one half at a score of {curve.score(0.5):.3f}, nine tenths at {curve.score(0.9):.3f}"
    )


def pairs(
    model: SummaryModel, sets: list[RetrievalSet]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores (n,) of every text with every image of its set, and whether they belong together."""
    scores, matches = [], []
    shown = partial(track, description="Compressing", transient=True)
    for each in sets:
        images = image_embeddings(model, [photo.open for photo in each.photos], shown)
        table = model.embed_text(list(each.texts)) @ images.T
        scores.append(table.ravel())
        matches.append(np.eye(len(table), dtype=bool).ravel())
    return np.concatenate(scores).astype(np.float64), np.concatenate(matches)
