"""The `precis` command: the service, the model's training and evaluation, and the client's
commands, put together.

Knows nothing of what the commands do; imports of the service and the model wait until their command
runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from clients.commands import COMMANDS
from service.commands.flags import settings_flags, settings_from_flags

# Arguments of these commands go on as they came: the command they name has its own options and its
# own --help.
_FORWARD: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {"ignore_unknown_options": True, "allow_interspersed_args": False},
}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="precis")
def main() -> None:
    """Précis keeps what a vision-language model saw, not the pixels: find images and ask about them
    later.
    """


for command in COMMANDS:
    main.add_command(command)


@main.command()
@settings_flags
def serve(**given: Any) -> None:
    """Run the service."""
    settings = settings_from_flags(given)
    from service.server import run

    run(settings)


def _forward(name: str, told: str, module: str, attribute: str) -> None:
    @main.command(name, help=told, **_FORWARD)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        found: click.Command = getattr(import_module(module), attribute)
        found.main(args=list(arguments), prog_name=f"precis {name}")


for name, told, module, attribute in (
    ("train", "Train the model.", "compressor.default_model.training.cli", "train"),
    (
        "data",
        "Prepare the default model's training data.",
        "compressor.default_model.data.__main__",
        "main",
    ),
    ("model", "Prepare the default model.", "service.commands.model", "model"),
    (
        "eval",
        "Measure what the model can do.",
        "compressor.default_model.evaluation.cli",
        "evaluate",
    ),
    ("score", "Score the model on a public data set.", "service.commands.score", "score"),
    ("rates", "Right answers against bytes an image.", "service.commands.rates", "rates"),
    ("adapters", "Show and check trained parts.", "compressor.fwd2bot.adapter_folder", "adapters"),
    (
        "backup",
        "Copy a library, while it is in use if need be.",
        "service.commands.library",
        "backup_command",
    ),
    ("restore", "Make a library of a backup.", "service.commands.library", "restore_command"),
    ("fsck", "Check a library, and mend it.", "service.commands.library", "fsck"),
    (
        "migrate",
        "Make tokens anew for images of another model.",
        "service.commands.migrate",
        "migrate",
    ),
    ("calibrate", "Fit the probability of a match.", "service.commands.calibrate", "calibrate"),
    ("recode", "Move a library to another token codec.", "service.commands.library", "recode"),
    (
        "train-codec",
        "Train a token codec on a model's tokens.",
        "service.commands.library",
        "train_codec_command",
    ),
):
    _forward(name, told, module, attribute)


if __name__ == "__main__":
    main(prog_name="precis")
