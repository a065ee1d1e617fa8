"""Encodes images of different numbers of tokens together: those of one number in one call of the codec.

Knows nothing of records. Shapes: B images, k an image's tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from index.codecs import TokenCodec


def encode_each(codec: TokenCodec, images: Sequence[NDArray[np.float32]]) -> list[bytes]:
    """Bytes of each image's (k, D) tokens, in order; k may differ. Raises BadTokens."""
    encoded = [b""] * len(images)
    for count in dict.fromkeys(len(tokens) for tokens in images):
        places = [place for place, tokens in enumerate(images) if len(tokens) == count]
        data = codec.encode(np.stack([images[place] for place in places]))
        for place, each in zip(places, data, strict=True):
            encoded[place] = each
    return encoded
