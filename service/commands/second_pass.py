"""`precis export second-pass`: the model's second pass for engines that serve language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from compressor.fwd2bot.causal_lm import save_causal_lm
from compressor.fwd2bot.generator import LvlmGenerator
from service.commands.flags import FIRST_PASS, settings_flags, settings_from_flags
from service.models import load_in_torch


@click.command("second-pass")
@click.argument("folder", type=click.Path(path_type=Path))
@settings_flags(*FIRST_PASS)
def export_second_pass_command(folder: Path, **flags: Any) -> None:
    """Write the model's second pass into the new FOLDER, as a causal language model of
    Transformers.

    Its adapter is merged into the weights of the LVLM's language model; tokenizer, chat template
    and the fingerprint are beside them. vLLM serves the folder as the command shows at the end.
    """
    settings = settings_from_flags(flags)
    models = load_in_torch(settings)
    assert isinstance(models.generator, LvlmGenerator), "the engine is torch"
    fingerprint = models.summary.fingerprint
    save_causal_lm(models.generator.model, fingerprint, folder)
    click.echo(f"Written. Its fingerprint is {fingerprint}. To serve it:")
    click.echo(
        f"vllm serve {folder} --served-model-name {fingerprint} --enable-prompt-embeds"
    )
