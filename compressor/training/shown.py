"""A run as the command line shows it: a progress bar with the losses, then the plot and the trained parts.

Knows nothing of what is trained on what.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.progress import Progress, TextColumn, TimeRemainingColumn

from compressor import artefact, plots, provenance
from compressor.lvlm import SummaryLvlm
from compressor.training import loop
from compressor.training.processes import Processes
from compressor.training.recipe import Recipe
from compressor.training.sharding import shard_base


def train_shown(
    model: SummaryLvlm,
    data: loop.Samples,
    recipe: Recipe,
    run: Path,
    caption_words: frozenset[str],
    processes: Processes,
    folder: Path,
) -> None:
    """Runs or resumes, and writes the trained parts into `folder`. Raises what loop.train raises."""
    if recipe.shard_base:
        shard_base(model, processes)
    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn(), TextColumn("{task.fields[losses]}"))
    with Progress(*columns, disable=processes.rank > 0) as progress:
        task = progress.add_task("double-forward steps", total=recipe.steps, losses="")
        for step, losses in loop.train(model, data, recipe, run, caption_words, processes):
            told = f"answers {losses.autoregressive:.3f} contrast {losses.contrastive:.3f}"
            if caption_words:
                told += f" words {losses.words:.3f}"
            progress.update(task, completed=step + 1, losses=told)
    if processes.rank == 0:
        plots.losses(run / "log.jsonl", run / "losses.png")
        artefact.save(model, folder)
        provenance.record(folder, model.config, asdict(recipe))
