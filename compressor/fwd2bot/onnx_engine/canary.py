"""The canary: prompts whose results are known, which an engine computes before it serves.

It finds what no checksum finds: a CPU on which the file gives other numbers. The results come from
every weight of the file: of the second pass the logits, in the prefill of several tokens and in the
decoding of one; of the first pass all that it makes of a picture and of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from compressor.errors import EngineRefused, ModelFilesInvalid

QUESTION = "What is in the image?"


def picture() -> Image.Image:
    """A picture of which it is known what the first pass makes of it."""
    return Image.radial_gradient("L").convert("RGB")


@dataclass(frozen=True)
class Canary:
    """A prompt of T embeddings and a further one, and the logits behind each of the two parts."""

    prompt: NDArray[np.float32]  # (T, D)
    next_token: NDArray[np.float32]  # (1, D)
    logits: NDArray[np.float32]  # (2, W) after the prompt, and after the next token

    @classmethod
    def load(cls, path: Path) -> Canary:
        """Raises ModelFilesInvalid."""
        arrays = _read(path, ("prompt", "next_token", "logits"))
        return cls(arrays["prompt"], arrays["next_token"], arrays["logits"])

    def check(self, logits: NDArray[np.float32], tolerance: float) -> None:
        """Raises EngineRefused unless the engine's (2, W) logits are the stored ones.

        `tolerance` is the largest deviation, in standard deviations of the stored logits.
        """
        _check_near(logits, self.logits, "logits", tolerance)


@dataclass(frozen=True)
class FirstPassCanary:
    """What PyTorch made of `picture()` and of QUESTION."""

    tokens: NDArray[np.float32]  # (K, D)
    image_embedding: NDArray[np.float32]  # (E,)
    text_embedding: NDArray[np.float32]  # (E,)

    @classmethod
    def load(cls, path: Path) -> FirstPassCanary:
        """Raises ModelFilesInvalid."""
        arrays = _read(path, ("tokens", "image_embedding", "text_embedding"))
        return cls(**arrays)

    def check(
        self,
        tokens: NDArray[np.float32],
        image_embedding: NDArray[np.float32],
        text_embedding: NDArray[np.float32],
        tolerance: float,
    ) -> None:
        """Raises EngineRefused unless the engine's are the stored ones.

        `tolerance` is the largest deviation, in standard deviations of the stored values.
        """
        _check_near(tokens, self.tokens, "summary tokens", tolerance)
        _check_near(image_embedding, self.image_embedding, "embeddings", tolerance)
        _check_near(text_embedding, self.text_embedding, "embeddings", tolerance)


def _read(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of a canary's file. Raises ModelFilesInvalid unless it has just these."""
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFilesInvalid(f"{path} is no canary") from error
    if set(arrays) != set(names):
        raise ModelFilesInvalid(f"{path} is no canary")
    return arrays


def _check_near(
    computed: NDArray[np.float32],
    stored: NDArray[np.float32],
    what: str,
    tolerance: float,
) -> None:
    # A NaN compares as false, so the question is whether all are near.
    worst = float(np.abs(computed - stored).max() / stored.std())
    if not worst <= tolerance:
        raise EngineRefused(
            f"the exported model gives other {what} on this CPU than those stored with it:"
            f" {worst:.2g} standard deviations apart, where {tolerance:.2g} are allowed"
        )
