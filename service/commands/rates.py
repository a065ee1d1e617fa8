"""`precis rates`: right answers and recall against bytes an image, over codecs and token budgets.

Each image is compressed once; the codecs and budgets differ in what they keep of its tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from compressor import plots
from compressor.errors import DataInvalid
from compressor.evaluation.folder import Figure, recall_figures
from compressor.evaluation.scores import BATCH, short_answers
from compressor.evaluation.vqa import exact_match
from compressor.ports import Generator, SummaryModel
from compressor.training.datasets import Entry, read
from compressor.training.sample import QA
from index.codecs.scalar import TokenCodec
from index.store.record_format import RECORD_BYTES, embedding_byte_count
from service.commands.flags import BOTH_PASSES, settings_flags, settings_from_flags
from service.commands.progress import track
from service.errors import InvalidOption
from service.model_wrappers import StoredSummaryModel
from service.models import Models, load_models
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


@click.command()
@click.option(
    "--data",
    type=_FOLDER,
    required=True,
    help="Folder with index.jsonl and images/ that the model never trained on.",
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
    help="Keep the first N summary tokens; repeatable. [default: as an upload that does not say]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Use the first N images.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a plot to this PNG file.",
)
@settings_flags(*BOTH_PASSES)
def rates(
    data: Path,
    codecs: tuple[str, ...],
    counts: tuple[int, ...],
    limit: int,
    plot: Path | None,
    **flags: object,
) -> None:
    """Plot right answers and recall on held-out images against bytes an image.

    Prints two tables and, last, one line of JSON.
    """
    settings = settings_from_flags(flags)
    entries = read(data, data).entries[:limit]
    models = load_models(settings)
    chosen = [_codec(name, models, settings) for name in codecs or _usual(models)]
    stored = StoredSummaryModel(models.summary, chosen[0])
    recall = recall_figures(stored, entries, partial(track, description="Searching"))
    model = models.summary if counts else models.as_kept
    measured = list(measure(model, models.generator, entries, chosen, counts))
    questions = sum(len(entry.questions) for entry in entries)
    _print_tables(measured, questions, recall)
    if plot:
        found = {name: recall[name].value for name in recall if name.endswith("R@1")}
        points = []
        for rate in measured:
            percents = {"right answers": rate.right, **found}
            points.append((rate.codec, rate.all_bytes, percents))
        plots.rates(points, plot)
    line = {
        "images": len(entries),
        "questions": questions,
        "rates": [asdict(rate) for rate in measured],
        "recall": {name: figure.values() for name, figure in recall.items()},
    }
    click.echo(json.dumps(line))


def measure(
    model: SummaryModel,
    generator: Generator,
    entries: Sequence[Entry],
    codecs: Sequence[TokenCodec],
    counts: Sequence[int],
) -> Iterator[Rate]:
    """Yields a rate for each codec and number of tokens.

    Raises InvalidOption for more tokens than the model makes, DataInvalid where nothing is asked.
    """
    token_count = model.tokens_shape[0]
    if counts and max(counts) > token_count:
        raise InvalidOption(
            f"The model makes {token_count} tokens an image, not {max(counts)}."
        )
    entries = [entry for entry in entries if len(entry.images) == 1]
    asked = [(row, qa) for row, each in enumerate(entries) for qa in each.questions]
    if not asked:
        raise DataInvalid("no image alone has questions")
    tokens = _compressed(model, entries)
    other_bytes = RECORD_BYTES + embedding_byte_count(model.embedding_size)
    pairs = [(codec, count) for count in counts or (token_count,) for codec in codecs]
    for codec, count in track(pairs, description="Answering"):
        stored = StoredSummaryModel(model, codec)
        right = _accuracy(stored.through_codec(tokens[:, :count]), generator, asked)
        token_bytes = stored.token_bytes
        yield Rate(codec.name, count, token_bytes, token_bytes + other_bytes, right)


def _compressed(model: SummaryModel, entries: Sequence[Entry]) -> NDArray[np.float32]:
    """(N, K, D) summary tokens."""
    batches = []
    for start in track(range(0, len(entries), BATCH), description="Compressing"):
        images = [entry.images[0]() for entry in entries[start : start + BATCH]]
        batches.append(model.compress(images).tokens)
    return np.concatenate(batches)


def _accuracy(
    tokens: NDArray[np.float32],
    generator: Generator,
    asked: Sequence[tuple[int, QA]],
) -> float:
    """Percent of the questions with the right answer; each stands beside its image's number."""
    right = 0.0
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        vectors = [[tokens[row]] for row, _ in batch]
        answers = short_answers(generator, vectors, [qa.question for _, qa in batch])
        for (_, qa), answer in zip(batch, answers, strict=True):
            right += exact_match(answer, [qa.answer])
    return round(100 * right / len(asked), 1)


def _print_tables(
    measured: Sequence[Rate], question_count: int, recall: Mapping[str, Figure]
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
    # No codec and no number of tokens changes a stored embedding.
    found = Table("recall, with any codec", "%", "of")
    for name, figure in recall.items():
        found.add_row(name, f"{figure.value:.1f}", str(figure.count))
    Console().print(rates, found)


def _usual(models: Models) -> Sequence[str]:
    return [*CODECS, models.codec_state.stem] if models.codec_state else CODECS


def _codec(name: str, models: Models, settings: Settings) -> TokenCodec:
    kind, _, state = name.partition("=")
    changes = {"codec": kind, "codec_state": Path(state) if state else None}
    return codec_of(models, settings.model_copy(update=changes))
