"""`precis rates`: accuracy and recall against bytes an image, over token codecs and token budgets.

Each image is compressed once; the codecs and budgets differ in what they keep of its tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from compressor import plots
from compressor.evaluation.scores import (
    BATCH,
    RetrievalSet,
    short_answers,
    text_to_image_recall,
)
from compressor.ports import Generator, SummaryModel
from index.codecs.scalar import TokenCodec
from index.store.record_format import RECORD_BYTES, embedding_byte_count
from service.commands.flags import MODEL, settings_flags, settings_from_flags
from service.commands.progress import track
from service.errors import InvalidOption
from service.model_wrappers import StoredSummaryModel
from service.models import (
    HeldOutQuestion,
    Models,
    held_out_questions,
    held_out_retrieval,
    load_models,
)
from service.runtime import codec_of
from service.settings import Settings

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
CODECS = ("fp16", "sq8", "sq4")  # beside the model's own


@dataclass(frozen=True)
class Rate:
    """What one codec and budget cost in bytes, and how the model performs with them."""

    codec: str
    tokens: int  # of each image
    token_bytes: float  # mean of an image
    # with embedding, header and checksum, but without the store's keys and pages
    all_bytes: float
    right: float  # percent of all questions
    recall: Mapping[str, float]  # percent of texts, by figure and rank


@click.command()
@click.option(
    "--photos",
    type=_FOLDER,
    required=True,
    help="Folder of photographs with an index.jsonl.",
)
@click.option(
    "--objects",
    type=_FOLDER,
    help="Folder of cut-outs: ask about composed scenes as well.",
)
@click.option(
    "--codec",
    "codecs",
    multiple=True,
    help="NAME, or NAME=FILE with its trained state; repeatable. [default: fp16, sq8, sq4, own]",
)
@click.option(
    "--tokens",
    "counts",
    multiple=True,
    type=click.IntRange(min=1),
    help="Keep the first N summary tokens; repeatable. [default: all]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Questions of each kind, and texts of each figure.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a plot to this PNG file.",
)
@settings_flags(*MODEL)
def rates(
    photos: Path,
    objects: Path | None,
    codecs: tuple[str, ...],
    counts: tuple[int, ...],
    limit: int,
    plot: Path | None,
    **flags: object,
) -> None:
    """Plot accuracy and recall on held-out photographs against bytes an image.

    Prints two tables and, last, one line of JSON.
    """
    settings = settings_from_flags(flags)
    models = load_models(settings)
    chosen = [_codec(name, models, settings) for name in codecs or _usual(models)]
    questions = list(held_out_questions(photos, objects, limit))
    sets = {
        name: pairs.first(limit) for name, pairs in held_out_retrieval(photos).items()
    }
    measured = list(
        measure(models.summary, models.generator, questions, sets, chosen, counts)
    )
    texts = {name: len(pairs.texts) for name, pairs in sets.items()}
    _print_tables(measured, len(questions), texts)
    if plot:
        points = [(rate.codec, rate.all_bytes, _plotted(rate)) for rate in measured]
        plots.rates(points, plot)
    lines = [asdict(rate) for rate in measured]
    click.echo(
        json.dumps({"questions": len(questions), "texts": texts, "rates": lines})
    )


def measure(
    model: SummaryModel,
    generator: Generator,
    questions: Sequence[HeldOutQuestion],
    sets: Mapping[str, RetrievalSet],
    codecs: Sequence[TokenCodec],
    counts: Sequence[int],
) -> Iterator[Rate]:
    """Yields a rate for each codec and number of tokens.

    Recall is that of the stored embeddings, which no codec or number of tokens changes. Raises
    InvalidOption for more tokens than the model makes.
    """
    token_count = model.tokens_shape[0]
    if counts and max(counts) > token_count:
        raise InvalidOption(
            f"The model makes {token_count} tokens an image, not {max(counts)}."
        )
    tokens = _compressed(model, questions)
    recall = _recall(StoredSummaryModel(model, codecs[0]), sets)
    other_bytes = RECORD_BYTES + embedding_byte_count(model.embedding_size)
    pairs = [(codec, count) for count in counts or (token_count,) for codec in codecs]
    for codec, count in track(pairs, description="Answering"):
        stored = StoredSummaryModel(model, codec)
        right = _accuracy(stored.through_codec(tokens[:, :count]), generator, questions)
        token_bytes = stored.token_bytes
        yield Rate(
            codec.name, count, token_bytes, token_bytes + other_bytes, right, recall
        )


def _compressed(
    model: SummaryModel, questions: Sequence[HeldOutQuestion]
) -> NDArray[np.float32]:
    """(Q, K, D) summary tokens of the image of each question."""
    batches = []
    for start in track(range(0, len(questions), BATCH), description="Compressing"):
        images = [question.image for question in questions[start : start + BATCH]]
        batches.append(model.compress(images).tokens)
    return np.concatenate(batches)


def _accuracy(
    tokens: NDArray[np.float32],
    generator: Generator,
    questions: Sequence[HeldOutQuestion],
) -> float:
    right = 0
    for start in range(0, len(questions), BATCH):
        batch = questions[start : start + BATCH]
        texts = [question.text for question in batch]
        answers = short_answers(generator, list(tokens[start : start + BATCH]), texts)
        for question, answer in zip(batch, answers, strict=True):
            right += question.is_right(answer)
    return round(100 * right / len(questions), 1)


def _recall(
    model: SummaryModel, sets: Mapping[str, RetrievalSet]
) -> Mapping[str, float]:
    """Percent of the texts whose image is among the first, by figure and rank."""
    recall: dict[str, float] = {}
    for name, pairs in sets.items():
        for rank, percent in text_to_image_recall(model, pairs).items():
            recall[f"{name}, {rank}"] = percent
    return recall


def _print_tables(
    measured: Sequence[Rate], question_count: int, texts: Mapping[str, int]
) -> None:
    titles = ("codec", "tokens", "token bytes", "total bytes", "right, %")
    rates = Table(*titles, caption=f"{question_count} questions")
    for rate in measured:
        rates.add_row(
            rate.codec,
            str(rate.tokens),
            f"{rate.token_bytes:.0f}",
            f"{rate.all_bytes:.0f}",
            f"{rate.right:.1f}",
        )
    caption = ", ".join(f"{count} {name}" for name, count in texts.items())
    recall = Table("recall, with any codec", "%", caption=caption)
    for name, percent in measured[0].recall.items():
        recall.add_row(name, f"{percent:.1f}")
    Console().print(rates, recall)


def _plotted(rate: Rate) -> Mapping[str, float]:
    first = {
        name: percent for name, percent in rate.recall.items() if name.endswith("R@1")
    }
    return {"right answers": rate.right, **first}


def _usual(models: Models) -> Sequence[str]:
    return [*CODECS, models.codec_state.stem] if models.codec_state else CODECS


def _codec(name: str, models: Models, settings: Settings) -> TokenCodec:
    kind, _, state = name.partition("=")
    changes = {"codec": kind, "codec_state": Path(state) if state else None}
    return codec_of(models, settings.model_copy(update=changes))
