"""Time to the first token of a second question about a stored image, against the same model looking
at the picture again.

Stored: the engine that serves by default keeps the keys and values of the image's tokens, which a
first question has made it read, and prefills only the second question. Uncompressed: as in
`bench.ask`. Every round has a photograph of its own, so that nothing but what the two questions
share has been read before. Physical limit: a step reads every weight once, and multiplies it by
every token that is not kept.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.ask import filled_library, from_picture, from_stored_tokens
from bench.default_model import Model
from bench.measure import Figure, in_turn, median_ratio, report, seconds
from bench.photographs import jpegs
from compressor.fwd2bot.onnx_engine.batch import PREFIX_BYTES
from compressor.fwd2bot.onnx_engine.export import export
from compressor.fwd2bot.second_pass_engines import ENGINES, EXPORTED_AS
from index.library import image_id

FIRST = "Describe this picture in two sentences."
SECOND = "What is in the image?"


def run(model: Model, *, rounds: int = 21) -> None:
    """Measures `rounds` photographs and reports."""
    # One more, to warm up with.
    contents = list(jpegs(rounds + 1))
    ids = [image_id(hashlib.sha256(content).hexdigest()) for content in contents]
    fingerprint = model.summary_model.fingerprint
    engine, precision = next(iter(EXPORTED_AS.items()))
    with tempfile.TemporaryDirectory() as folder:
        export(model.lvlm, fingerprint, Path(folder), precision)
        generator = ENGINES[engine](
            model.generator, fingerprint, Path(folder), PREFIX_BYTES, None
        )
        library = filled_library(Path(folder, "library"), model, contents)

        def stored(question: str) -> Callable[[int], object]:
            return lambda n: from_stored_tokens(generator, library, ids[n], question)

        def uncompressed(number: int) -> object:
            return from_picture(model, contents[number], SECOND)

        def timed(path: Callable[[int], object]) -> Callable[[], float]:
            numbers = iter(range(len(contents)))
            return lambda: seconds(lambda: path(next(numbers)))

        # In this order: the first question makes the engine read the image.
        measurements = {
            "first": timed(stored(FIRST)),
            "second": timed(stored(SECOND)),
            "uncompressed": timed(uncompressed),
        }
        in_turn(measurements, rounds=1)  # warms up
        taken = in_turn(measurements, rounds)
        library.close()
    report(
        "second_question",
        [
            Figure("first_question_first_token_ms", 1e3 * median(taken["first"])),
            Figure("second_question_first_token_ms", 1e3 * median(taken["second"])),
            Figure("uncompressed_first_token_ms", 1e3 * median(taken["uncompressed"])),
            Figure(
                "uncompressed_over_second_question",
                median_ratio(taken["uncompressed"], taken["second"]),
                at_least=10,
            ),
        ],
    )


if __name__ == "__main__":
    from bench.default_model import load

    run(load())
