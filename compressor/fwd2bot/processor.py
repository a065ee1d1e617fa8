"""A model's processor from a folder: tokenizer, image processor and chat template, never videos."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import transformers
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    PreTrainedConfig,
    ProcessorMixin,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils.hub import PushToHubMixin

from compressor.errors import ModelFilesInvalid

# In the order in which AutoProcessor looks for the name of the processor's class.
_NAMING_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
)
# What Transformers raises for files that are missing, damaged, or of a class it does not have.
LOAD_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
)


class NoVideoProcessor(PushToHubMixin):
    """Stands where a processor insists on a video processor: no video ever comes."""

    num_frames = fps = 1  # asked for by SmolVLM's chat template

    def to_dict(self) -> dict[str, Any]:
        """Nothing; a processor describes itself with its parts' descriptions."""
        return {}


def load_processor(folder: Path, config: PreTrainedConfig) -> ProcessorMixin:
    """The processor in `folder`, its images read by Pillow. Raises ModelFilesInvalid.

    AutoProcessor makes every part that the class has, and video processors need torchvision, which
    Précis does without; so the parts are made here.
    """
    kind = without_videos(_processor_class(folder, config))
    # A folder may come from anybody: none of its code is run, and nothing is fetched in its name.
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    parts: list[Any] = []
    for name in kind.get_attributes():
        if name == "video_processor":
            parts.append(NoVideoProcessor())
            continue
        if name not in ("tokenizer", "image_processor"):
            raise ModelFilesInvalid(
                f"{folder}: {kind.__name__} needs a {name}, which is not read"
            )
        try:
            if name == "tokenizer":
                parts.append(AutoTokenizer.from_pretrained(folder, **options))
            else:
                parts.append(
                    AutoImageProcessor.from_pretrained(folder, backend="pil", **options)
                )
        except LOAD_ERRORS as error:
            readable = name.replace("_", " ")
            raise ModelFilesInvalid(
                f"{folder} has no {readable} that can be loaded: {first_line(error)}"
            ) from error
    try:
        values, _ = kind.get_processor_dict(folder, local_files_only=True)
        processor = kind.from_args_and_dict(parts, values)
    except LOAD_ERRORS as error:
        raise ModelFilesInvalid(
            f"{folder} has no {kind.__name__} that can be loaded: {first_line(error)}"
        ) from error
    # Without its files a tokenizer of some classes loads all the same, and knows no token.
    if processor.tokenizer.convert_ids_to_tokens(config.image_token_id) is None:
        raise ModelFilesInvalid(
            f"{folder} has no tokenizer that can be loaded: token {config.image_token_id}, which"
            " stands for an image, is missing"
        )
    if processor.chat_template is None:
        # Older folders keep the template in the tokenizer's file.
        processor.chat_template = processor.tokenizer.chat_template
    if processor.chat_template is None:
        raise ModelFilesInvalid(f"{folder} has no chat template (chat_template.jinja)")
    return cast(ProcessorMixin, processor)


def without_videos(kind: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """The same processor class, which takes a NoVideoProcessor too."""

    def check(self: ProcessorMixin, name: str, argument: object) -> object:
        # The class that a video processor is held against cannot be looked up without torchvision.
        if isinstance(argument, NoVideoProcessor):
            return NoVideoProcessor
        check_part: Callable[..., object] = kind.check_argument_for_proper_class
        return check_part(self, name, argument)

    # SmolVLM's refuses to start without a package that spells the number of a video's frames.
    module = sys.modules[kind.__module__]
    if getattr(module, "num2words", str) is None:
        module.num2words = str  # type: ignore[attr-defined]
    members = {"check_argument_for_proper_class": check, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)


def _processor_class(folder: Path, config: PreTrainedConfig) -> type[ProcessorMixin]:
    for name in _NAMING_FILES:
        kind = getattr(transformers, _class_name(folder / name), None)
        if isinstance(kind, type) and issubclass(kind, ProcessorMixin):
            return kind
    if type(config) in PROCESSOR_MAPPING:
        return cast(type[ProcessorMixin], PROCESSOR_MAPPING[type(config)])
    raise ModelFilesInvalid(
        f"{folder} names no processor that Transformers has, and {config.model_type} has none of"
        " its own"
    )


def _class_name(path: Path) -> str:
    """The processor's class that a file names; empty if there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        # A folder may lack any of the naming files; one that is there has to be JSON.
        return ""
    except (OSError, ValueError) as error:
        raise ModelFilesInvalid(f"{path} is not JSON") from error
    name = values.get("processor_class") if isinstance(values, dict) else None
    return name if isinstance(name, str) else ""


def first_line(error: BaseException) -> str:
    """What an error says, without its advice."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
