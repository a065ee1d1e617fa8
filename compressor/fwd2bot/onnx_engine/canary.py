"""The canary: one prompt whose logits are known, which an engine computes before it serves.

It finds what no checksum finds: a CPU on which the file gives other numbers. Its logits come from
every weight of the file, in the prefill of several tokens and in the decoding of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from compressor.errors import EngineRefused, ModelFilesInvalid
from compressor.fwd2bot.decoding import Decoding
from compressor.fwd2bot.model import SummaryLvlm

_QUESTION = "What is in the image?"


@dataclass(frozen=True)
class Canary:
    """A prompt of T embeddings and a further one, and the logits behind each of the two parts."""

    prompt: NDArray[np.float32]  # (T, D)
    next_token: NDArray[np.float32]  # (1, D)
    logits: NDArray[np.float32]  # (2, W) after the prompt, and after the next token

    @classmethod
    def load(cls, path: Path) -> Canary:
        """Raises ModelFilesInvalid."""
        try:
            arrays = load_file(path)
            return cls(arrays["prompt"], arrays["next_token"], arrays["logits"])
        except (OSError, SafetensorError, KeyError) as error:
            raise ModelFilesInvalid(f"{path} is no canary") from error

    def check(self, logits: NDArray[np.float32], tolerance: float) -> None:
        """Raises EngineRefused unless the engine's (2, W) logits are the stored ones.

        `tolerance` is the largest deviation, in standard deviations of the stored logits.
        """
        # A NaN compares as false, so the question is whether all are near.
        worst = float(np.abs(logits - self.logits).max() / self.logits.std())
        if not worst <= tolerance:
            raise EngineRefused(
                "the exported language model gives other logits on this CPU than those stored"
                f" with it: {worst:.2g} standard deviations apart, where {tolerance:.2g} are"
                " allowed"
            )


def write(model: SummaryLvlm, path: Path) -> None:
    """Stores the canary of a model's second pass, its logits computed by PyTorch in float32."""
    ids = model.prompt_ids(0, [("user", _QUESTION)])
    with torch.inference_mode(), model.adapters.use("second_pass"):
        row = model.with_images(ids, [])
        decoding = Decoding(model.decoder, model.pad_left([row]))
        first = model.output_head(decoding.step().last_hidden_state[:, -1])
        following = model.embedding(first.argmax(-1, keepdim=True))
        second = model.output_head(decoding.step(following).last_hidden_state[:, -1])
    arrays = {
        "prompt": row,
        "next_token": following[0],
        "logits": torch.cat([first, second]),
    }
    save_file(
        {name: value.float().cpu().numpy() for name, value in arrays.items()}, path
    )
