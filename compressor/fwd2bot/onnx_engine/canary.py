"""The canary: prompts whose results are known, which an engine computes before it serves.

It finds what no checksum finds: a CPU on which the file gives other numbers. The results come from
every weight of the file: of the second pass the logits, in the prefill of several tokens and in the
decoding of one; of the first pass the hidden states, of two prompts of different lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch.nn.utils.rnn import pad_sequence

from compressor.errors import EngineRefused, ExportFailed, ModelFilesInvalid
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
        arrays = _read(path, ("prompt", "next_token", "logits"))
        return cls(arrays["prompt"], arrays["next_token"], arrays["logits"])

    def check(self, logits: NDArray[np.float32], tolerance: float) -> None:
        """Raises EngineRefused unless the engine's (2, W) logits are the stored ones.

        `tolerance` is the largest deviation, in standard deviations of the stored logits.
        """
        _check_near(logits, self.logits, "logits", tolerance)


@dataclass(frozen=True)
class FirstPassCanary:
    """B prompts of T embeddings at most, and the hidden states of their N tokens."""

    embeddings: NDArray[np.float32]  # (B, T, D), padded on the right
    lengths: NDArray[np.int64]  # (B,) tokens of each prompt
    last: NDArray[np.float32]  # (N, D) of the last layer, without the padding
    layers: NDArray[np.float32]  # (N, C) of the layers that the retrieval head reads

    @classmethod
    def load(cls, path: Path) -> FirstPassCanary:
        """Raises ModelFilesInvalid."""
        arrays = _read(path, ("embeddings", "lengths", "last", "layers"))
        return cls(
            arrays["embeddings"], arrays["lengths"], arrays["last"], arrays["layers"]
        )

    def check(
        self,
        last: NDArray[np.float32],
        layers: NDArray[np.float32],
        tolerance: float,
    ) -> None:
        """Raises EngineRefused unless the engine's (B, T, …) states are the stored ones.

        `tolerance` is the largest deviation, in standard deviations of the stored states.
        """
        places = np.arange(self.embeddings.shape[1])
        is_token = places < self.lengths[:, None]
        _check_near(last[is_token], self.last, "states of the last layer", tolerance)
        _check_near(layers[is_token], self.layers, "hidden states", tolerance)


def _read(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of a canary's file. Raises ModelFilesInvalid unless it has all these."""
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
            f"the exported language model gives other {what} on this CPU than those stored"
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


def write_first_pass(model: SummaryLvlm, path: Path) -> None:
    """Stores the canary of a model's first pass, its states computed by PyTorch in float32.

    Of a picture and of a text. Raises ExportFailed for a model whose prompts are more than
    embeddings.
    """
    picture = Image.radial_gradient("L").convert("RGB")
    with torch.inference_mode(), model.adapters.use("first_pass"):
        prompt = model.decoder_prompt(model.first_pass_inputs([picture]))
        if prompt.extras:
            names = ", ".join(sorted(prompt.extras))
            raise ExportFailed(
                f"the language model reads {names} beside embeddings, and has no export"
            )
        words = model.text_words([_QUESTION]).ids
        rows = [prompt.inputs_embeds[0], model.embedding(words)[0]]
        last, layers = [], []
        # One by one: so no padding has a part in what the engine is compared with.
        for row in rows:
            mask = torch.ones(1, len(row), dtype=torch.long)
            states = model.decoder_states(row.unsqueeze(0), mask)
            last.append(states.last[0])
            layers.append(states.layers[0])
    arrays = {
        "embeddings": pad_sequence(rows, batch_first=True),
        "last": torch.cat(last),
        "layers": torch.cat(layers),
    }
    lengths = np.array([len(row) for row in rows], np.int64)
    floats = {name: value.float().cpu().numpy() for name, value in arrays.items()}
    save_file({**floats, "lengths": lengths}, path)
