"""What the default model's token codec takes of an image's time: writing and reading its tokens,
beside the first pass.

The same photographs go through the first pass and their tokens through the codec, in batches as the
service makes them. Peer: sq8, FAISS's scalar quantiser. Physical limit: the pursuit multiplies a
few residuals with the dictionary, about a hundredth of the first pass's arithmetic; the rest is
small matrices one after the other.
"""

from __future__ import annotations

import numpy as np

from bench.bytes import DEFAULT, STATE
from bench.default_model import TOKENS_SHAPE, Model, load
from bench.ingest import BATCH_SIZE, decoded_photographs
from bench.measure import Figure, in_turn, median_ratio, report, seconds
from index.codecs.registry import read_trained
from index.codecs.scalar import SELF_CONTAINED, TokenCodec


def run(model: Model | None = None, *, rounds: int = 5) -> None:
    """Measures `rounds` batches and reports."""
    model = model or load()
    images = decoded_photographs(BATCH_SIZE)
    tokens = model.summary_model.compress(images).tokens
    if tokens.shape[1:] != TOKENS_SHAPE:  # another model than the codec's
        tokens = np.resize(tokens, (BATCH_SIZE, *TOKENS_SHAPE))
    codecs: dict[str, TokenCodec] = {"sq8": SELF_CONTAINED["sq8"]()}
    if STATE is not None:
        codecs[DEFAULT] = read_trained(DEFAULT, STATE)
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
            Figure(
                "first_pass_ms_an_image",
                1e3 * float(np.median(taken["first_pass"])) / BATCH_SIZE,
            ),
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
