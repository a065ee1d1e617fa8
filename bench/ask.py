"""Time to the first token of an answer from stored tokens, against the same model looking at the
picture again.

PutResult: read the record, decode its tokens, build the prompt, one step of the second pass; the
same once more through `POST /ask` of a server. Uncompressed: decode the JPEG, run the vision tower,
put all visual tokens in the prompt, one step of the same model with the same adapter. One pair
after the other, on the same photograph and question. Physical limit: a step reads every weight once
(bytes over the memory's bandwidth) and multiplies it by every token of the prompt (operations over
the processor's rate). The longer prompt costs by the second; a prompt of some tokens comes near the
first, and below that no compression helps.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import cycle
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from bench.default_model import Model
from bench.measure import Figure, in_turn, median_ratio, report, seconds
from bench.photographs import NAMES, jpegs
from bench.serving import Command, precis_serve, serving
from compressor.default_model.build import KEPT_TOKENS
from compressor.ports import (
    GenerationLimits,
    GenerationRequest,
    Generator,
    Piece,
    Turn,
)
from index.library import Library, image_id, open_library
from index.ports import NewImage
from precis_client.sync_client import Precis
from precis_client.uploads import PictureUpload

QUESTIONS = (
    "What is in the image?",
    "What colour is the background?",
    "Is there a cat?",
)
LIMITS = GenerationLimits(max_tokens=1)


def run(
    model: Model,
    *,
    rounds: int = 21,
    photographs: int = len(NAMES),
    command: Command = precis_serve,
) -> None:
    """Measures `rounds` pairs and reports."""
    contents = list(jpegs(photographs))
    ids = [image_id(hashlib.sha256(content).hexdigest()) for content in contents]
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder, "service"), command) as service,
        Precis(service.url) as precis,
    ):
        served = [
            precis.add(PictureUpload("photograph.jpg", content))[0].id
            for content in contents
        ]
        library = filled_library(Path(folder, "library"), model, contents)
        paths: dict[str, Callable[[int, str], object]] = {
            "stored": lambda n, question: from_stored_tokens(
                model.generator, library, ids[n], question
            ),
            "http": lambda n, question: through_http(precis, served[n], question),
            "uncompressed": lambda n, question: from_picture(
                model, contents[n], question
            ),
        }
        prompt_tokens = {"stored": 0, "uncompressed": 0}
        for name in prompt_tokens:  # warms up, too
            prompt_tokens[name] = paths[name](0, QUESTIONS[0]).prompt_tokens

        def timed(path: Callable[[int, str], object]) -> Callable[[], float]:
            numbers, questions = cycle(range(photographs)), cycle(QUESTIONS)
            return lambda: seconds(lambda: path(next(numbers), next(questions)))

        taken = in_turn({name: timed(path) for name, path in paths.items()}, rounds)
        library.close()
    report(
        "ask",
        [
            Figure("stored_first_token_ms", 1e3 * median(taken["stored"])),
            Figure("http_first_token_ms", 1e3 * median(taken["http"])),
            Figure("uncompressed_first_token_ms", 1e3 * median(taken["uncompressed"])),
            Figure("stored_prompt_tokens", prompt_tokens["stored"]),
            Figure("uncompressed_prompt_tokens", prompt_tokens["uncompressed"]),
            Figure(
                "uncompressed_over_stored",
                median_ratio(taken["uncompressed"], taken["stored"]),
                at_least=5,
            ),
            Figure(
                "uncompressed_over_http",
                median_ratio(taken["uncompressed"], taken["http"]),
                at_least=5,
            ),
        ],
    )


def filled_library(folder: Path, model: Model, contents: list[bytes]) -> Library:
    """A new library with the photographs stored as ingest would; the caller closes it."""
    library = open_library(
        folder,
        fingerprint=model.summary_model.fingerprint,
        token_shape=model.summary_model.tokens_shape,
        embedding_size=model.summary_model.embedding_size,
    )
    images = [open_picture(content) for content in contents]
    summary = model.summary_model.compress(images)
    library.put(
        [
            NewImage(
                sha256=hashlib.sha256(content).hexdigest(),
                fingerprint=model.summary_model.fingerprint,
                tokens=tokens[:KEPT_TOKENS],
                embedding=embedding,
                width_px=image.width,
                height_px=image.height,
                metadata={},
                picture=None,
            )
            for content, image, tokens, embedding in zip(
                contents, images, summary.tokens, summary.embeddings, strict=True
            )
        ]
    )
    return library


def open_picture(content: bytes) -> Image.Image:
    """The decoded JPEG, as a plain program would open it."""
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB")


def from_stored_tokens(
    generator: Generator,
    library: Library,
    id_: str,
    question: str,
) -> Piece:
    """The first token, from the record in the store."""
    (tokens,) = library.tokens([id_])
    assert tokens is not None
    request = GenerationRequest([tokens], [Turn("user", question)])
    return first_token(generator.generate([request], [LIMITS]))


def from_picture(model: Model, content: bytes, question: str) -> Piece:
    """The first token, from the picture's bytes, with all visual tokens in the prompt."""
    with torch.inference_mode():
        prompt = model.lvlm.uncompressed_prompt(
            [[open_picture(content)]], [[("user", question)]]
        )
    return first_token(model.generator.answer(prompt, [LIMITS]))


def first_token(pieces: Iterable[Piece]) -> Piece:
    """The first piece with a token; those before it come while the prompt is read in parts."""
    return next(piece for piece in pieces if piece.completion_tokens)


def through_http(precis: Precis, id_: str, question: str) -> str:
    """The first piece of text that arrives from the service."""
    with closing(
        iter(precis.ask(question, image_ids=[id_], max_tokens=1, stream=True))
    ) as pieces:
        return next(pieces, "")


if __name__ == "__main__":
    from bench.default_model import load

    run(load())
