"""The second pass as an ordinary causal language model: a folder that other engines serve.

The language model of the LVLM with the second-pass adapter merged into its weights, tokenizer and
chat template, as Transformers saves them. Whoever runs it gives embeddings for the prompt: summary
tokens have no ids.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from compressor.errors import ExportFailed
from compressor.fwd2bot.adapters import AdapterName, merged_weight
from compressor.fwd2bot.config import ForwardKind
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.progress_bars import no_progress_bars

# In config.json: the summary model whose tokens this language model reads.
FINGERPRINT_KEY = "precis_fingerprint"
_CHAT_TEMPLATE = "chat_template.jinja"


def save_causal_lm(model: SummaryLvlm, fingerprint: str, folder: Path) -> None:
    """Writes the new folder, whole or not at all; the weights keep the model's dtype.

    `fingerprint` is the summary model's. Raises ExportFailed.
    """
    if folder.exists():
        raise ExportFailed(f"{folder} exists already")
    plain = plain_causal_lm(model, model.embedding.weight.dtype)
    setattr(plain.config, FINGERPRINT_KEY, fingerprint)
    # Written beside its place and renamed when complete, so that a folder that exists is whole.
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        with no_progress_bars():
            plain.save_pretrained(temporary)
        model.tokenizer.save_pretrained(temporary)
        # Many processors keep the template to themselves.
        template = getattr(model.processor, "chat_template", None)
        if isinstance(template, str):
            (temporary / _CHAT_TEMPLATE).write_text(template)
        temporary.rename(folder)
    except OSError as error:
        raise ExportFailed(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def plain_causal_lm(
    model: SummaryLvlm, dtype: torch.dtype, adapter: AdapterName = "second_pass"
) -> PreTrainedModel:
    """The language model, a pass's adapter merged, on the CPU in `dtype`.

    Shares memory with the model's weights where they are there already. Raises ExportFailed.
    """
    if model.config.forward == ForwardKind.SINGLE:
        raise ExportFailed("a model of single forward has no second pass of its own")
    words = model.embedding.weight.detach()
    head = cast(nn.Linear, model.output_head).weight.detach()
    text_config: Any = model.base.config.get_text_config()
    config = type(text_config).from_dict(text_config.to_dict())
    config.vocab_size = len(words)
    config.tie_word_embeddings = words.data_ptr() == head.data_ptr()
    config.dtype = dtype
    try:
        with torch.device("meta"):
            plain: Any = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise ExportFailed(
            f"Transformers has no causal language model of type {config.model_type}"
        ) from error
    weights = _weights(model, plain, dtype, adapter)
    try:
        plain.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ExportFailed(
            f"the language model is not a plain {config.model_type}: {reason}"
        ) from error
    plain.tie_weights()
    plain.generation_config = GenerationConfig(eos_token_id=list(model.end_ids))
    return cast(PreTrainedModel, plain)


def _weights(
    model: SummaryLvlm, plain: Any, dtype: torch.dtype, adapter: AdapterName
) -> dict[str, Tensor]:
    """The parameters of the plain model by their names there."""
    words = model.embedding.weight.detach()
    embedding = plain.get_input_embeddings().weight
    output_head = plain.get_output_embeddings()
    prefix = f"{plain.base_model_prefix}."
    weights: dict[str, Tensor] = {}
    with torch.no_grad(), model.adapters.use(adapter):
        # Both names of weights that are tied, for the check that none is missing.
        for name, parameter in plain.named_parameters(remove_duplicate=False):
            if parameter is embedding:
                weight = words
            elif name.startswith(prefix):
                name_in_decoder = name.removeprefix(prefix)
                weight = merged_weight(model.decoder, name_in_decoder)
            else:
                # What is beside the decoder is the output head.
                attribute = name.rpartition(".")[2]
                assert parameter is output_head.get_parameter(attribute), name
                weight = model.output_head.get_parameter(attribute).detach()
            weights[name] = weight.to("cpu", dtype).contiguous()
    return weights
