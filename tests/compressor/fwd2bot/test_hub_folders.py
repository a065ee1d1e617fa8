"""Folders laid out as the hub has them load without torchvision; what cannot is one clear line."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressor.errors import ModelFilesInvalid
from compressor.fwd2bot.load import load_production
from compressor.ports import GenerationLimits, GenerationRequest, Turn
from tests.compressor.production import ARCHITECTURES
from tests.conformance.summary_model_suite import pictures

# Fields of the hub's files that `save_pretrained` of the tiny parts does not write: class names of
# earlier releases, the video processor's file, the chat template's older file.
IMAGE_PROCESSORS = {
    "llava": ("CLIPImageProcessor", "LlavaProcessor"),
    "llava_onevision": ("LlavaOnevisionImageProcessor", "LlavaOnevisionProcessor"),
    "qwen2_5_vl": ("Qwen2VLImageProcessor", "Qwen2_5_VLProcessor"),
    "qwen3_vl": ("Qwen2VLImageProcessorFast", "Qwen3VLProcessor"),
    "smolvlm": ("SmolVLMImageProcessor", "SmolVLMProcessor"),
    "idefics3": ("Idefics3ImageProcessor", "Idefics3Processor"),
}
PROCESSORS: dict[str, dict[str, Any]] = {
    "llava": {
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
    },
    "llava_onevision": {
        "image_token": "<image>",
        "num_image_tokens": 4,
        "video_token": "<video>",
        "vision_feature_select_strategy": "full",
    },
    "smolvlm": {"image_seq_len": 4},
    "idefics3": {"image_seq_len": 4},
}
VIDEO_PROCESSORS: dict[str, dict[str, Any]] = {
    "llava_onevision": {
        "video_processor_type": "LlavaOnevisionVideoProcessor",
        "do_resize": True,
    },
    "qwen3_vl": {
        "size": {"longest_edge": 25165824, "shortest_edge": 4096},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "processor_class": "Qwen3VLProcessor",
        "video_processor_type": "Qwen3VLVideoProcessor",
    },
}
OF_SMOLVLM2 = {
    "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 512}}
}


def write(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2))


def hub_folder(architecture: Callable[[], Any], path: Path) -> Path:
    """The folder as a snapshot of the hub has it: one file for each part, named as there."""
    name = architecture.__name__
    model, processor = architecture()
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(path)
    processor.tokenizer.save_pretrained(path)
    image_class, processor_class = IMAGE_PROCESSORS[name]
    images = processor.image_processor.to_dict()
    images |= {"image_processor_type": image_class, "processor_class": processor_class}
    if name == "qwen2_5_vl":  # the older way to write a budget of pixels
        size = images.pop("size")
        images |= {
            "min_pixels": size["shortest_edge"],
            "max_pixels": size["longest_edge"],
        }
    if name == "smolvlm":
        images |= OF_SMOLVLM2
    write(path / "preprocessor_config.json", images)
    if name in PROCESSORS:
        values = PROCESSORS[name] | {"processor_class": processor_class}
        write(path / "processor_config.json", values)
    if name in VIDEO_PROCESSORS:
        write(path / "video_preprocessor_config.json", VIDEO_PROCESSORS[name])
    write(path / "chat_template.json", {"chat_template": processor.chat_template})
    return path


def saved_folder(architecture: Callable[[], Any], path: Path) -> Path:
    """The folder as this Transformers writes it: all parts in one processor_config.json."""
    _, processor = architecture()
    hub_folder(architecture, path)
    for name in ("preprocessor_config.json", "chat_template.json"):
        (path / name).unlink()
    (path / "video_preprocessor_config.json").unlink(missing_ok=True)
    name = architecture.__name__
    values = PROCESSORS.get(name, {}) | {"processor_class": IMAGE_PROCESSORS[name][1]}
    values["image_processor"] = json.loads(processor.image_processor.to_json_string())
    if architecture.__name__ in VIDEO_PROCESSORS:
        values["video_processor"] = VIDEO_PROCESSORS[architecture.__name__]
    write(path / "processor_config.json", values)
    (path / "chat_template.jinja").write_text(processor.chat_template)
    return path


def test_torchvision_is_not_there() -> None:
    """Else the tests below would show nothing."""
    assert importlib.util.find_spec("torchvision") is None


@pytest.mark.parametrize(
    "layout", [hub_folder, saved_folder], ids=lambda made: made.__name__
)
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda made: made.__name__)
def test_compresses_and_answers(
    architecture: Callable[[], Any], layout: Callable[..., Path], tmp_path: Path
) -> None:
    folder = layout(architecture, tmp_path)
    model, generator = load_production(folder, None)
    summary = model.compress(pictures()[:2])
    assert np.isfinite(summary.tokens).all()
    assert np.abs(summary.tokens[0] - summary.tokens[1]).max() > 0
    request = GenerationRequest([summary.tokens[0]], [Turn("user", "What is it?")])
    assert list(generator.generate([request], [GenerationLimits(2)]))[-1].finish_reason


def by_name(name: str) -> Callable[[], Any]:
    return next(each for each in ARCHITECTURES if each.__name__ == name)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hub_folder(by_name("qwen3_vl"), tmp_path_factory.mktemp("sound"))


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def damaged(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def changed(name: str, **values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        old = json.loads((folder / name).read_text())
        write(folder / name, old | values)

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("tokenizer.json", "tokenizer_config.json"), "tokenizer"),
        (without("preprocessor_config.json"), "image processor"),
        (without("chat_template.json"), "no chat template"),
        (
            damaged("chat_template.json", '{"chat_template": "{{ 1 /"}'),
            "cannot be rendered",
        ),
        (
            damaged("chat_template.json", '{"chat_template": "hello"}'),
            "does not show the image",
        ),
        (damaged("preprocessor_config.json", "{"), "not JSON"),
        (damaged("model.safetensors", "no tensors"), "cannot be loaded"),
        (changed("config.json", model_type="llama"), "cannot be loaded"),
        (changed("config.json", model_type="unheard_of"), "cannot be loaded"),
        (
            changed("preprocessor_config.json", image_processor_type="Unheard"),
            "image processor",
        ),
    ],
)
def test_what_cannot_be_loaded_is_one_line(
    sound: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(sound, folder)
    spoil(folder)
    with pytest.raises(ModelFilesInvalid, match=message) as raised:
        load_production(folder, None)
    assert "\n" not in str(raised.value)
