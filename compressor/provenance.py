"""How trained parts came to be, beside them: `recipes.json`, and a model card where there is none by hand.

Knows nothing of models or training. Neither file decides tokens or embeddings, so neither changes a fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressor import artefact
from compressor.errors import ModelFilesInvalid
from compressor.summary_config import SummaryConfig

RECIPES, CARD = "recipes.json", "README.md"
_TOLD = ("steps", "batch_size", "reads")  # fields of a recipe that a card and `precis adapters show` tell
_MARK = "<!-- Written by `precis train`, anew after each run; a card without this line stays as it is. -->"


def record(folder: Path, config: SummaryConfig, recipe: Mapping[str, Any]) -> None:
    """Notes a finished run over the parts in the folder, and writes the card. Raises OSError, ModelFilesInvalid.

    A run that was resumed for more steps is one run.
    """
    runs, recipe = recipes(folder), json.loads(json.dumps(recipe))
    if runs and {**runs[-1], "steps": 0} == {**recipe, "steps": 0}:
        del runs[-1]
    runs.append(recipe)
    (folder / RECIPES).write_text(json.dumps({"format_version": 1, "runs": runs}, indent=2) + "\n", encoding="utf-8")
    card = folder / CARD
    if not card.exists() or _MARK in card.read_text(encoding="utf-8"):
        card.write_text(_card(config, runs, artefact.fingerprint(folder)), encoding="utf-8")


def recipes(folder: Path) -> list[dict[str, Any]]:
    """All fields of the recipe of each run over the parts, the first first; [] if none is known.

    Raises ModelFilesInvalid.
    """
    try:
        told = json.loads((folder / RECIPES).read_text(encoding="utf-8"))
        if told["format_version"] != 1:
            raise ModelFilesInvalid(f"{folder / RECIPES} is of a version that this program does not know")
        if not all(set(_TOLD) <= set(run) for run in told["runs"]):
            raise ModelFilesInvalid(f"{folder / RECIPES} has runs without {', '.join(_TOLD)}")
        return [dict(run) for run in told["runs"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFilesInvalid(f"{folder / RECIPES} is no list of recipes") from error


def _card(config: SummaryConfig, runs: list[dict[str, Any]], fingerprint: str) -> str:
    kept = " or ".join(map(str, config.kept_counts))
    steps = "\n".join(
        f"| {number} | {run['steps']} | {run['batch_size']} | {run['reads']} |" for number, run in enumerate(runs, 1)
    )
    return f"""---
library_name: peft
tags: [precis, fwd2bot]
---
{_MARK}

# Adapters for {config.base_model}

Two adapters of rank {config.lora_rank} (`first_pass`, `second_pass`), summary tokens and a retrieval head for Précis,
after Fwd2Bot (arXiv 2503.21757): an image goes through the base model once and is kept as summary tokens.

| | |
|---|---|
| base model | {config.base_model} (type, and a hash of its configuration and weight files) |
| summary tokens that may be kept of an image | {kept} |
| embedding | {config.embedding_size} values |
| fingerprint | {fingerprint} |

| run | steps | images a step | the second pass reads |
|---|---|---|---|
{steps}

Every field of their recipes is in `{RECIPES}`. Not told here, for training does not know it: on what data, under which
licence, what the parts are good for and what not, and figures (`precis score`). Whoever shares them should say so.
"""
