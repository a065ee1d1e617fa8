"""`precis rates`: how many answers are right at how many bytes an image, over token codecs and numbers of tokens.

Knows nothing of HTTP. Each image is compressed once; what differs is what is kept of its tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
from compressor.errors import CompressorError
from compressor.evaluation import figures
from compressor.evaluation.batches import BATCH
from compressor.ports import Generator, SummaryModel
from compressor.training.data import heldout
from compressor.training.data import objects as cutouts
from compressor.training.data import photos as photographs
from compressor.training.data.heldout import HeldOutQuestion
from index.codecs import TokenCodec
from index.errors import IndexingError
from index.record_bytes import RECORD_BYTES, embedding_byte_count
from service.engines import Models, model_factory
from service.errors import InvalidInput, ServiceError
from service.flags import settings_from_flags
from service.runtime import codec_of
from service.settings import Settings
from service.stored_model import StoredSummaryModel

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


@click.command()
@click.option("--photos", type=_FOLDER, required=True, help="Photographs with index.jsonl: naming.")
@click.option("--objects", type=_FOLDER, help="Prepared cut-outs: questions about composed scenes too.")
@click.option("--codec", "codecs", multiple=True, help="NAME, or NAME=FILE with its trained state; some if left out.")
@click.option(
    "--tokens", "counts", multiple=True, type=click.IntRange(min=1), help="Keep the first so many; all if left out."
)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Questions of each figure.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draws rate against distortion (PNG).")
def rates(
    photos: Path, objects: Path | None, codecs: tuple[str, ...], counts: tuple[int, ...], limit: int, plot: Path | None
) -> None:
    """Right answers against bytes an image, on held-out photographs; ends with one JSON line."""
    try:
        settings = settings_from_flags({})
        models = model_factory(settings.model)(settings)
        chosen = [_codec(name, models, settings) for name in codecs or _usual(models)]
        questions = list(_questions(photos, objects, limit))
        found = list(rates_of(models.summary, models.generator, questions, chosen, counts))
    except (CompressorError, IndexingError, ServiceError) as error:
        raise click.ClickException(str(error)) from error
    table = Table("codec", "tokens", "token bytes", "bytes in all", "right, %", caption=f"{len(questions)} questions")
    for rate in found:
        table.add_row(
            rate.codec, str(rate.tokens), f"{rate.token_bytes:.0f}", f"{rate.all_bytes:.0f}", f"{rate.right:.1f}"
        )
    Console().print(table)
    if plot:
        plots.rates([(rate.codec, rate.all_bytes, rate.right) for rate in found], plot)
    click.echo(json.dumps({"questions": len(questions), "rates": [asdict(rate) for rate in found]}))


def rates_of(
    model: SummaryModel,
    generator: Generator,
    questions: Sequence[HeldOutQuestion],
    codecs: Sequence[TokenCodec],
    counts: Sequence[int],
) -> Iterator[Rate]:
    """One for each codec and number of tokens. Raises InvalidInput for more tokens than the model makes."""
    whole = model.tokens_shape[0]
    if any(count > whole for count in counts):
        raise InvalidInput(f"the model makes {whole} tokens an image, not {max(counts)}")
    starts = track(range(0, len(questions), BATCH), description="Compressing", console=_console(), transient=True)
    tokens = np.concatenate(
        [model.compress([each.image for each in questions[start : start + BATCH]]).tokens for start in starts]
    )
    ways = [(codec, count) for count in counts or (whole,) for codec in codecs]
    for codec, count in track(ways, description="Answering", console=_console(), transient=True):
        stored = StoredSummaryModel(model, codec)
        right = _right(stored.through_codec(tokens[:, :count]), generator, questions)
        rest = RECORD_BYTES + embedding_byte_count(model.embedding_size)
        yield Rate(codec.name, count, stored.token_bytes, stored.token_bytes + rest, right)


def _right(kept: NDArray[np.float32], generator: Generator, questions: Sequence[HeldOutQuestion]) -> float:
    tokens = iter(kept)
    answers = figures.answer(lambda images: list(islice(tokens, len(images))), generator, iter(questions))
    return round(100 * float(np.mean([each.right for each in answers])), 1)


def _questions(photos: Path, objects: Path | None, limit: int) -> Iterator[HeldOutQuestion]:
    read = photographs.read(photos)
    if objects is None:
        yield from islice(heldout.naming(read), limit)
        return
    for questions in figures.question_sets(read, cutouts.load(objects)).values():
        yield from islice(questions(), limit)


def _usual(models: Models) -> Sequence[str]:
    return [*CODECS, models.codec_state.stem] if models.codec_state else CODECS


def _codec(name: str, models: Models, settings: Settings) -> TokenCodec:
    kind, _, state = name.partition("=")
    changes = {"codec": kind, "codec_state": Path(state) if state else None}
    return codec_of(models, settings.model_copy(update=changes))


def _console() -> Console:
    return Console(stderr=True)
