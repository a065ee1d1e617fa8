"""Loads an LVLM from a folder as summary model and generator, with adapters or training-free.

Without adapters the summary tokens are soft words (see `Readout`), and the embedding is a fixed
random projection of the same hidden states, each channel standardised over a few plain pictures and
texts. All K tokens come out of one forward pass, or each is read before the next is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from jinja2 import TemplateError
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText

from compressor.errors import ModelFilesInvalid
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.adapter_folder import base_name
from compressor.fwd2bot.config import (
    AdapterKind,
    ForwardKind,
    ReadoutKind,
    SummaryConfig,
)
from compressor.fwd2bot.fingerprint import fingerprint
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.placement import ANYWHERE, Placement
from compressor.fwd2bot.processor import LOAD_ERRORS, first_line, load_processor
from compressor.fwd2bot.progress_bars import no_progress_bars
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import Mode

SoftWords = Literal["parallel", "sequential"]  # all at once, or one by one
_SEED = 7  # of the projection that takes the place of a trained retrieval head
# Texts of different kinds: only the mean and the deviation of each channel are taken from them.
_THINGS = (
    "a cat", "a dog on the grass", "two people on a street", "a red car", "a cup of coffee",
    "a house in the snow", "a bird in a tree", "a bowl of fruit", "the sea at night",
    "a page of text", "a child with a ball", "a mountain",
)  # fmt: skip


def assemble(
    folder: Path,
    config: SummaryConfig,
    *,
    placement: Placement = ANYWHERE,
    training: bool = False,
    seed: int = _SEED,
) -> SummaryLvlm:
    """The LVLM in `folder` with untrained adapters, summary tokens and head.

    The base model is in the placement's dtype; what training changes is in float32. No code of the
    folder's is run. `seed` is of the random start of adapters and head. Raises ModelFilesInvalid,
    DeviceUnavailable.
    """
    # First of all: a device that is not there should not cost the minutes of reading weights.
    device, dtype = placement.resolve(training=training)
    try:
        with no_progress_bars():
            base = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, local_files_only=True, trust_remote_code=False
            )
    except (*LOAD_ERRORS, SafetensorError) as error:
        raise ModelFilesInvalid(
            f"{folder} cannot be loaded as a vision-language model: {first_line(error)}"
        ) from error
    # Summary tokens stand where this placeholder would; a model without one has no place for them.
    if not hasattr(base.config, "image_token_id"):
        raise ModelFilesInvalid(
            f"{base.config.model_type} has no placeholder token for an image"
        )
    processor = load_processor(folder, base.config)
    # Every rank of a training run, and every start of a training-free service, has the same head.
    torch.manual_seed(seed)
    base.train(False)
    model = SummaryLvlm(base, processor, config)
    _check_template(model, folder)
    return model.to(device)


def _check_template(model: SummaryLvlm, folder: Path) -> None:
    """Raises ModelFilesInvalid unless the chat template shows an image where it should be."""
    try:
        ids = model.prompt_ids(1, [("user", "?")])
    except (TemplateError, *LOAD_ERRORS) as error:
        raise ModelFilesInvalid(
            f"{folder} has a chat template that cannot be rendered: {first_line(error)}"
        ) from error
    # Such a template would leave out every image without an error, and answers would be made up.
    if ids.count(model.image_token_id) != 1:
        raise ModelFilesInvalid(
            f"{folder} has a chat template that does not show the image"
        )


def settings_of(adapters: Path, name: str) -> SummaryConfig:
    """The settings of a folder of adapters.

    Raises ModelFilesInvalid unless they belong to the base model `name`.
    """
    config = SummaryConfig.load(adapters)
    if config.base_model != name:
        raise ModelFilesInvalid(
            f"{adapters} belongs to the base model {config.base_model}, not to {name}"
        )
    return config


def load_lvlm(
    folder: Path,
    adapters: Path | None,
    token_count: int = 8,
    soft_words: SoftWords = "parallel",
    *,
    placement: Placement = ANYWHERE,
) -> SummaryLvlm:
    """The LVLM in `folder`, with trained adapters or training-free.

    `adapters` is their folder; without it the model makes `token_count` soft words. Raises
    ModelFilesMissing, ModelFilesInvalid or DeviceUnavailable.
    """
    name = base_name(folder)
    if adapters is not None:
        config = settings_of(adapters, name)
        return load_adapted(folder, adapters, config, placement=placement)
    in_turn = soft_words == "sequential"
    readout = ReadoutKind.SOFT_WORDS_IN_TURN if in_turn else ReadoutKind.SOFT_WORDS
    config = SummaryConfig(base_model=name, token_count=token_count, readout=readout)
    model = assemble(folder, config, placement=placement)
    # Nothing trains these tokens apart, and libraries hold what this start gave them.
    model.embedding.start_at_mean_word()
    standardise(model)
    return model.eval().requires_grad_(False)


def load_adapted(
    folder: Path,
    adapters: Path,
    config: SummaryConfig,
    *,
    placement: Placement = ANYWHERE,
) -> SummaryLvlm:
    """The LVLM in `folder` with the adapters in a folder, whose settings are `config`.

    Raises ModelFilesMissing, ModelFilesInvalid or DeviceUnavailable.
    """
    # The settings before the weights, since they decide which shapes the weights must have.
    model = assemble(folder, config, placement=placement)
    adapter_folder.load(model, adapters)
    # A shared adapter, or none, is there to be compared with, not to be served fast.
    if config.adapters == AdapterKind.STAGE_SPECIFIC:
        model.merge_adapters()
    return model.eval().requires_grad_(False)


def load_production(
    folder: Path,
    adapters: Path | None,
    soft_words: SoftWords = "parallel",
    *,
    placement: Placement = ANYWHERE,
) -> tuple[LvlmSummaryModel, LvlmGenerator]:
    """First and second pass of the LVLM in `folder`; `soft_words` only matters without adapters.

    Raises what `load_lvlm` raises.
    """
    model = load_lvlm(folder, adapters, soft_words=soft_words, placement=placement)
    if model.config.forward == ForwardKind.SINGLE:
        raise ModelFilesInvalid(
            f"{adapters} is of single forward, which is there for comparison and not served"
        )
    if adapters is not None:
        return LvlmSummaryModel(model, fingerprint(adapters)), LvlmGenerator(model)
    identity = training_free_fingerprint(model.config)
    in_turn = model.config.readout == ReadoutKind.SOFT_WORDS_IN_TURN
    mode: Mode = "soft words, one by one" if in_turn else "soft words"
    return LvlmSummaryModel(model, identity, mode=mode), LvlmGenerator(model)


def training_free_fingerprint(config: SummaryConfig) -> str:
    """32 hex digits that no folder of adapters has.

    They cover the settings, which name the base model, and the seed of the head: nothing else
    decides tokens and embeddings.
    """
    identity = f"training-free {_SEED} {json.dumps(config.values(), sort_keys=True)}"
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def standardise(model: SummaryLvlm) -> None:
    """Fits the statistics of an untrained retrieval head's channels to plain pictures and texts."""
    pictures = list(_plain_pictures())
    with torch.inference_mode():
        states = []
        # One at a time: it runs once, and a batch of 15 may not fit beside a large model.
        for picture in pictures:
            first = model.first_pass(model.first_pass_inputs([picture]))
            assert first.hidden_states is not None, "only a baseline has none"
            states.append(first.hidden_states)
        model.head.fit_statistics(torch.cat(states), model.text_states(_THINGS).hidden)


def _plain_pictures() -> Iterator[Image.Image]:
    """Colours, gradients and patterns: what any picture has in common with any other."""
    gradient = Image.linear_gradient("L").resize((224, 224))
    for colour in ("black", "white", "red", "green", "blue", "yellow"):
        yield Image.new("RGB", (224, 224), colour)
        yield Image.composite(
            Image.new("RGB", (224, 224), colour),
            Image.new("RGB", (224, 224), "grey"),
            gradient,
        )
    yield Image.radial_gradient("L").resize((224, 224)).convert("RGB")
    yield Image.merge("RGB", [gradient, gradient.rotate(90), gradient.rotate(180)])
