"""`precis calibrate`: fits the curve from scores to probabilities on held-out photographs.

The curve holds for a library like the one it was fitted on: one image among all matches a text.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from compressor.evaluation.scores import RetrievalSet, image_embeddings
from compressor.ports import SummaryModel
from index.calibration import fit_calibration, write_calibration
from service.commands.flags import MODEL, settings_flags, settings_from_flags
from service.commands.progress import track
from service.models import held_out_retrieval, load_models


@click.command()
@click.option(
    "--photos",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of photographs with an index.jsonl.",
)
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@settings_flags(*MODEL)
def calibrate(photos: Path, target: Path, **flags: object) -> None:
    """Fit the curve on held-out photographs and write it to TARGET (JSON)."""
    settings = settings_from_flags(flags)
    sets = held_out_retrieval(photos)
    model = load_models(settings).summary
    scores, matches = score_pairs(model, sets.values())
    curve = fit_calibration(model.fingerprint, scores, matches)
    write_calibration(curve, target)
    click.echo(
        f"A hit matches with probability 0.5 at a score of {curve.score(0.5):.3f}"
    )
    click.echo(f"and with probability 0.9 at a score of {curve.score(0.9):.3f}.")


def score_pairs(
    model: SummaryModel, sets: Iterable[RetrievalSet]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores (n,) of every text with every image of its set, and whether the two match."""
    scores: list[NDArray[np.float32]] = []
    matches: list[NDArray[np.bool_]] = []
    progress = partial(track, description="Compressing")
    for pairs in sets:
        images = image_embeddings(
            model, [photo.open for photo in pairs.photos], progress
        )
        texts = model.embed_text(list(pairs.texts))
        scores.append((texts @ images.T).ravel())
        matches.append(np.eye(len(texts), dtype=bool).ravel())
    return np.concatenate(scores).astype(np.float64), np.concatenate(matches)
