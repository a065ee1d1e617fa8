"""The service's commands, which the entry point `precis.commands` adds to `precis`."""

from __future__ import annotations

from dataclasses import replace

from precis_client.cli import main
from precis_client.command_tables import CommandTable, LazyCommand, LazyGroup
from service.errors import OUR_ERRORS

MODEL_COMMANDS = {
    "build": LazyCommand(
        "service.commands.model", "build_command", "Prepare the model's files once."
    ),
    "train": LazyCommand(
        "compressor.default_model.cli",
        "train",
        "Tune an LVLM, and train adapters for it.",
    ),
    "eval": LazyCommand(
        "compressor.default_model.cli",
        "evaluate",
        "Evaluate an LVLM over a folder of images.",
    ),
    "score": LazyCommand(
        "service.commands.score", "score", "Score the model on a public benchmark."
    ),
    "rates": LazyCommand(
        "service.commands.rates", "rates", "Plot accuracy against bytes an image."
    ),
    "study": LazyCommand(
        "compressor.default_model.study",
        "study",
        "Compare ways of training on the same data.",
    ),
    "adapters": LazyCommand(
        "compressor.fwd2bot.adapter_folder",
        "adapters",
        "Show and verify trained adapters.",
    ),
    "calibrate": LazyCommand(
        "service.commands.calibrate",
        "calibrate",
        "Fit the probability of a match to scores.",
    ),
    "data": LazyCommand(
        "compressor.default_model.cli",
        "data",
        "Make questions about photographs, to train and evaluate on.",
    ),
    "train-codec": LazyCommand(
        "service.commands.library", "train_codec_command", "Train a token codec."
    ),
}
EXPORT_COMMANDS = {
    "library": LazyCommand(
        "service.commands.transfer",
        "export_library",
        "Export a library and its collections.",
    ),
    "second-pass": LazyCommand(
        "service.commands.second_pass",
        "export_second_pass_command",
        "Export a model's second pass for vLLM.",
    ),
}
# Each is reached as `precis NAME` too.
SHORT_MODEL_COMMANDS = {
    name: replace(entry, hidden=True)
    for name, entry in MODEL_COMMANDS.items()
    if name != "build"
}

TABLE = CommandTable(
    {
        "backup": LazyCommand(
            "service.commands.library",
            "backup_command",
            "Copy a library, even while it is in use.",
        ),
        "cluster": LazyCommand(
            "service.commands.cluster", "cluster", "Run the service on a Ray cluster."
        ),
        "config": LazyCommand(
            "service.commands.config", "config", "Show every setting and its source."
        ),
        "export": LazyCommand("service.cli", "export", "Export a library as files."),
        "fsck": LazyCommand(
            "service.commands.library", "fsck", "Check a library and repair it."
        ),
        "import": LazyCommand(
            "service.commands.transfer",
            "import_command",
            "Import a library that was exported.",
        ),
        "keys": LazyCommand(
            "service.commands.keys", "keys", "Create, list and revoke API keys."
        ),
        "migrate": LazyCommand(
            "service.commands.migrate",
            "migrate",
            "Re-encode a library's images with another model.",
        ),
        "model": LazyCommand(
            "service.cli", "model", "Prepare, train and evaluate models."
        ),
        "recode": LazyCommand(
            "service.commands.library",
            "recode",
            "Convert a library to another token codec.",
        ),
        "restore": LazyCommand(
            "service.commands.library",
            "restore_command",
            "Restore a library from a backup.",
        ),
        "serve": LazyCommand("service.commands.serve", "serve", "Run the service."),
        **SHORT_MODEL_COMMANDS,
    },
    OUR_ERRORS,
)
model = LazyGroup(
    "model",
    commands=MODEL_COMMANDS,
    help="Prepare, train and evaluate models.",
)
export = LazyGroup(
    "export",
    commands=EXPORT_COMMANDS,
    help="Export a library, or a model's second pass.",
)


if __name__ == "__main__":
    main(prog_name="precis")
