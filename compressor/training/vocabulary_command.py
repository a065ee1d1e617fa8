"""`precis train vocabulary`: a model's words and their embeddings in one file, for a token codec made of words.

Knows nothing of codecs. The file is a NumPy archive: `vectors` (V, D) float16, `texts` UTF-8 with a zero byte between,
`always` (V,) true for the words that the default model's own heads say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

import click
import numpy as np
from transformers import PreTrainedTokenizerBase

from compressor import default
from compressor.errors import CompressorError
from compressor.lvlm import SummaryLvlm
from compressor.production import load_lvlm
from compressor.words import PLACES, Words


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--model-dir", type=click.Path(path_type=Path, file_okay=False), default=Path(".cache/precis"))
@click.option("--lvlm", is_flag=True, help="MODEL_DIR is an LVLM as Hugging Face saves it, not the default model's.")
def vocabulary(file: Path, model_dir: Path, lvlm: bool) -> None:
    """The words of a model, for `precis train-codec mix16`."""
    try:
        model = load_lvlm(model_dir, None) if lvlm else default.load_lvlm(model_dir)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    said = [] if lvlm else _words_of_heads(Words.load(default.WEIGHTS))
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
    """As it reads, a space before it where a word begins; bytes that are no text by themselves as the tokenizer names
    them. The zero byte stands between texts and is left out."""
    text = str(tokenizer.decode([number])).replace("\0", "")
    return text if text.isprintable() and text else str(tokenizer.convert_ids_to_tokens(number))


def _words_of_heads(words: Words) -> Iterable[str]:
    for group in astuple(words):
        yield from (f" {word}" for word in group)
    yield from PLACES
