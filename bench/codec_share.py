"""What the default model's token codec takes of an image's time: writing and reading its tokens, beside the first pass.

The same photographs go through the first pass and their tokens through the codec, in batches as the service makes them.
Peer: sq8, FAISS's scalar quantiser. Physical limit: the pursuit multiplies a few residuals with the dictionary, about a
hundredth of the first pass's arithmetic; the rest is small matrices one after the other.
"""

from __future__ import annotations

import numpy as np

from bench.default_model import TOKENS_SHAPE, Model, load
from bench.measure import Figure, in_turn, median_ratio, report, seconds
from bench.photographs import jpegs
from compressor.default import WEIGHTS
from index.codec_shelf import read_trained, state_files
from index.codecs import SELF_CONTAINED, TokenCodec
from service.pictures import decode
from service.settings import Settings

BATCH = 16


def run(model: Model | None = None, *, rounds: int = 5) -> None:
    """Measures `rounds` batches and reports."""
    model = model or load()
    settings = Settings()
    images = [
        decode(content, max_pixels=settings.max_image_pixels, max_side_px=settings.image_side_px).image
        for content in jpegs(BATCH)
    ]
    tokens = model.summary_model.compress(images).tokens
    (state,) = state_files(WEIGHTS)
    if tokens.shape[1:] != TOKENS_SHAPE:  # another model than the codec's
        tokens = np.resize(tokens, (BATCH, *TOKENS_SHAPE))
    codecs = {state.stem: read_trained(state.stem, state), "sq8": SELF_CONTAINED["sq8"]()}
    taken = in_turn(
        {
            "first_pass": lambda: seconds(lambda: model.summary_model.compress(images)),
            **{
                name: lambda codec=codec: seconds(lambda: there_and_back(codec, tokens))
                for name, codec in codecs.items()
            },
        },
        rounds,
    )
    report(
        "codec_share",
        [
            Figure("first_pass_ms_an_image", 1e3 * float(np.median(taken["first_pass"])) / BATCH),
            *(
                Figure(
                    f"{name}_percent_of_first_pass",
                    100 * median_ratio(taken[name], taken["first_pass"]),
                    at_most=5 if name != "sq8" else None,
                )
                for name in codecs
            ),
        ],
    )


def there_and_back(codec: TokenCodec, tokens: np.ndarray) -> None:
    """Writes and reads (B, K, D) tokens."""
    for data in codec.encode(tokens):
        codec.decode(data, *tokens.shape[1:])


if __name__ == "__main__":
    run()
