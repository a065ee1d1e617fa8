"""`precis rates`: right answers and recall against bytes an image, over token codecs and numbers of
tokens.

Knows nothing of HTTP. Each image is compressed once; what differs is what is kept of its tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from compressor import plots
from compressor.default_model.data import cutouts as cutouts
from compressor.default_model.data import photos as photographs
from compressor.default_model.data.photos import Photos
from compressor.default_model.evaluation import figures, heldout
from compressor.default_model.evaluation.heldout import HeldOutQuestion, RetrievalSet
from compressor.errors import CompressorError
from compressor.evaluation.scores import BATCH
from compressor.ports import Generator, SummaryModel
from index.codecs.scalar import TokenCodec
from index.errors import LibraryError
from index.store.record_format import RECORD_BYTES, embedding_byte_count
from service.commands.flags import settings_from_flags
from service.errors import InvalidInput, ServiceError
from service.model_wrappers import StoredSummaryModel
from service.models import Models, model_factory
from service.runtime import codec_of
from service.settings import Settings

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
CODECS = ("fp16", "sq8", "sq4")  # beside the model's own


@dataclass(frozen=True)
class Rate:
    """What one way of keeping tokens costs and gives."""

    codec: str
    tokens: int  # of each image
    token_bytes: float  # mean of an image
    all_bytes: float  # with embedding, header, checksum; keys and pages of the store apart
    right: float  # percent of all questions
    recall: Mapping[
        str, float
    ]  # percent of texts whose image is among the first, by figure and rank


@click.command()
@click.option("--photos", type=_FOLDER, required=True, help="Photographs with index.jsonl: naming.")
@click.option(
    "--objects", type=_FOLDER, help="Prepared cut-outs: questions about composed scenes too."
)
@click.option(
    "--codec",
    "codecs",
    multiple=True,
    help="NAME, or NAME=FILE with its trained state; some if left out.",
)
@click.option(
    "--tokens",
    "counts",
    multiple=True,
    type=click.IntRange(min=1),
    help="Keep the first so many; all if left out.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Questions and texts of each figure.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draws both against bytes (PNG).",
)
def rates(
    photos: Path,
    objects: Path | None,
    codecs: tuple[str, ...],
    counts: tuple[int, ...],
    limit: int,
    plot: Path | None,
) -> None:
    """Right answers and recall against bytes an image, on held-out photographs; ends with one JSON
    line.
    """
    try:
        settings = settings_from_flags({})
        models = model_factory(settings.model)(settings)
        chosen = [_codec(name, models, settings) for name in codecs or _usual(models)]
        read = photographs.read(photos)
        questions = list(_questions(read, objects, limit))
        pairs = {
            name: each.first(limit)
            for name, each in figures.retrieval_sets(read).items()
            if each.texts
        }
        found = list(rates_of(models.summary, models.generator, questions, pairs, chosen, counts))
    except (CompressorError, LibraryError, ServiceError) as error:
        raise click.ClickException(str(error)) from error
    texts = {name: len(each.texts) for name, each in pairs.items()}
    table = Table(
        "codec",
        "tokens",
        "token bytes",
        "bytes in all",
        "right, %",
        caption=f"{len(questions)} questions",
    )
    for rate in found:
        table.add_row(
            rate.codec,
            str(rate.tokens),
            f"{rate.token_bytes:.0f}",
            f"{rate.all_bytes:.0f}",
            f"{rate.right:.1f}",
        )
    recall = Table(
        "recall, with any codec",
        "%",
        caption=", ".join(f"{count} {name}" for name, count in texts.items()),
    )
    for name, percent in found[0].recall.items():
        recall.add_row(name, f"{percent:.1f}")
    Console().print(table, recall)
    if plot:
        plots.rates([(rate.codec, rate.all_bytes, _drawn(rate)) for rate in found], plot)
    click.echo(
        json.dumps(
            {"questions": len(questions), "texts": texts, "rates": [asdict(rate) for rate in found]}
        )
    )


def rates_of(
    model: SummaryModel,
    generator: Generator,
    questions: Sequence[HeldOutQuestion],
    pairs: Mapping[str, RetrievalSet],
    codecs: Sequence[TokenCodec],
    counts: Sequence[int],
) -> Iterator[Rate]:
    """One for each codec and number of tokens. Raises InvalidInput for more tokens than the model
    makes.

    Recall is that of the stored embeddings, which are made once for any codec and number of tokens.
    """
    whole = model.tokens_shape[0]
    if any(count > whole for count in counts):
        raise InvalidInput(f"the model makes {whole} tokens an image, not {max(counts)}")
    starts = track(
        range(0, len(questions), BATCH),
        description="Compressing",
        console=_console(),
        transient=True,
    )
    tokens = np.concatenate(
        [
            model.compress([each.image for each in questions[start : start + BATCH]]).tokens
            for start in starts
        ]
    )
    recall = _recall(StoredSummaryModel(model, codecs[0]), pairs)
    ways = [(codec, count) for count in counts or (whole,) for codec in codecs]
    for codec, count in track(ways, description="Answering", console=_console(), transient=True):
        stored = StoredSummaryModel(model, codec)
        right = _right(stored.through_codec(tokens[:, :count]), generator, questions)
        rest = RECORD_BYTES + embedding_byte_count(model.embedding_size)
        yield Rate(codec.name, count, stored.token_bytes, stored.token_bytes + rest, right, recall)


def _right(
    kept: NDArray[np.float32], generator: Generator, questions: Sequence[HeldOutQuestion]
) -> float:
    tokens = iter(kept)
    answers = figures.answer(
        lambda images: list(islice(tokens, len(images))), generator, iter(questions)
    )
    return round(100 * float(np.mean([each.right for each in answers])), 1)


def _drawn(rate: Rate) -> Mapping[str, float]:
    first = {name: percent for name, percent in rate.recall.items() if name.endswith("R@1")}
    return {"right answers": rate.right, **first}


def _recall(model: SummaryModel, pairs: Mapping[str, RetrievalSet]) -> Mapping[str, float]:
    return {
        f"{name}, {rank}": percent
        for name, each in pairs.items()
        for rank, percent in figures.recall(model, each).items()
    }


def _questions(photos: Photos, objects: Path | None, limit: int) -> Iterator[HeldOutQuestion]:
    if objects is None:
        yield from islice(heldout.naming(photos), limit)
        return
    for questions in figures.question_sets(photos, cutouts.load(objects)).values():
        yield from islice(questions(), limit)


def _usual(models: Models) -> Sequence[str]:
    return [*CODECS, models.codec_state.stem] if models.codec_state else CODECS


def _codec(name: str, models: Models, settings: Settings) -> TokenCodec:
    kind, _, state = name.partition("=")
    changes = {"codec": kind, "codec_state": Path(state) if state else None}
    return codec_of(models, settings.model_copy(update=changes))


def _console() -> Console:
    return Console(stderr=True)
