"""The commands that know the default model: `precis data`, `precis train` and `precis eval`."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from transformers import PreTrainedTokenizerBase

from compressor.default_model import soft_word_llava  # noqa: F401  registers the model
from compressor.default_model.base_model import write_base
from compressor.default_model.data import question_folder
from compressor.errors import CompressorError
from compressor.evaluation.cli import evaluate
from compressor.fwd2bot.load import load_lvlm
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.cli import base, head, lvlm

__all__ = ["data", "evaluate", "train"]
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def data() -> None:
    """Make questions about photographs, to train and to evaluate on."""


@data.command("questions")
@click.argument("index", type=_FILE)
@click.argument("target", type=_FOLDER)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--only",
    type=click.Choice(["captions", "labels"]),
    help="Leave out photographs that have no captions, or no label.",
)
@click.option(
    "--held-out",
    is_flag=True,
    help="Ask about the photographs that training leaves out.",
)
@click.option(
    "--descriptive",
    is_flag=True,
    help="Ask only what cannot be guessed without the picture.",
)
@click.option(
    "--renamed",
    type=click.IntRange(min=1),
    help="Ask about labelled photographs alone, each under N made-up names that only its visual"
    " tokens spell: so a model learns to copy names.",
)
@click.option(
    "--together",
    type=click.IntRange(min=1),
    help="Ask about N groups of two to four captioned photographs, each group as one sample.",
)
def questions_command(
    index: Path,
    target: Path,
    seed: int,
    only: question_folder.Only | None,
    held_out: bool,
    descriptive: bool,
    renamed: int | None,
    together: int | None,
) -> None:
    """Make questions from the captions or labels in INDEX (its images lie beside it in images/).

    TARGET becomes a folder for the --data of `precis train`, `precis eval` and `precis calibrate`.
    """
    if together and (renamed or descriptive or only):
        raise click.UsageError(
            "--together has questions of its own: without --renamed, --descriptive and --only"
        )
    try:
        kinds = question_folder.write(
            index,
            target,
            seed,
            only,
            held_out=held_out,
            descriptive=descriptive,
            renamed=renamed or 0,
            together=together or 0,
        )
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    for kind, count in kinds.most_common():
        click.echo(f"{kind:20} {count:7}")


@click.group()
def train() -> None:
    """Tune an LVLM, and train adapters for it; the default model is one."""


@train.command("base-folder")
@click.argument("folder", type=_FOLDER)
@click.option(
    "--parts",
    type=_FOLDER,
    help="What `precis train base` has learnt; without it the base is untuned.",
)
def base_folder(folder: Path, parts: Path | None) -> None:
    """Write the default model's base as an LVLM in FOLDER, from the packages' checkpoints."""
    try:
        write_base(folder, parts)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error


@train.command()
@click.argument("file", type=_FILE)
@click.option(
    "--model",
    "folder",
    type=_FOLDER,
    required=True,
    help="The LVLM as Hugging Face saves it.",
)
def vocabulary(file: Path, folder: Path) -> None:
    """Write an LVLM's words and their embeddings to FILE, for `precis train-codec mix16`."""
    try:
        model = load_lvlm(folder, None)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    write_vocabulary(file, model)
    click.echo(f"{len(model.embedding.words.weight)} words")


def write_vocabulary(file: Path, model: SummaryLvlm) -> None:
    """Writes a NumPy archive: `vectors` (V, D) float16, `texts` UTF-8 with a zero byte between."""
    vectors = model.embedding.words.weight.detach().float().cpu().numpy()
    # Texts make the file readable for people and let another tokenizer be matched to it.
    texts = [_text(model.tokenizer, number) for number in range(len(vectors))]
    joined = np.frombuffer("\0".join(texts).encode(), dtype=np.uint8)
    with file.open("wb") as target:
        np.savez(target, vectors=vectors.astype(np.float16), texts=joined)


def _text(tokenizer: PreTrainedTokenizerBase, number: int) -> str:
    """A token as it reads, with the space that a word begins with.

    Bytes that are no text by themselves come as the tokenizer names them.
    """
    text = str(tokenizer.decode([number]))
    text = text.replace("\0", "")  # it separates texts in the file
    if text and text.isprintable():
        return text
    return str(tokenizer.convert_ids_to_tokens(number))


train.add_command(base)
train.add_command(lvlm)
train.add_command(head)

if __name__ == "__main__":
    # For machines that have what training needs, and not the service.
    train(prog_name="python -m compressor.default_model.cli")
