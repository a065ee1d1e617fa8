"""Production LVLMs built small: the real model and processor classes, random weights, a tokenizer
made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from transformers import (
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import (
    Idefics3ImageProcessorPil,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
)
from transformers.models.smolvlm.image_processing_pil_smolvlm import (
    SmolVLMImageProcessorPil,
)

from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.processor import NoVideoProcessor, without_videos
from tests.compressor.tiny import tiny_tokenizer

HALF_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
TEXT = {**HALF_LLAMA, "num_key_value_heads": 2, "max_position_embeddings": 1024}
VISION = {**HALF_LLAMA, "num_attention_heads": 2}
SUMMARY = SummaryConfig(
    "tiny", token_count=4, embedding_size=16, lora_rank=4, lora_alpha=4
)

USER_ASSISTANT = """\
{%- for message in messages -%}
{%- if message.role == 'user' %}USER: {% else %} ASSISTANT: {% endif -%}
{%- for part in message.content -%}
{%- if part.type == 'image' %}<image>
{% else %}{{ part.text }}{% endif -%}
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt %} ASSISTANT:{% endif -%}"""
CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' }}
{%- for part in message.content -%}
{%- if part.type == 'image' %}PLACEHOLDER{% else %}{{ part.text }}{% endif -%}
{%- endfor -%}
{{ '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}"""
UTTERANCES = """\
{%- for message in messages -%}
{{ '<|im_start|>' if loop.first }}{{ message.role | capitalize }}:
{%- for part in message.content -%}
{%- if part.type == 'image' %}<image>{% else %} {{ part.text }}{% endif -%}
{%- endfor -%}
{{ '<end_of_utterance>\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}Assistant:{% endif -%}"""


def llava() -> tuple[PreTrainedModel, ProcessorMixin]:
    """LLaVA-1.5: one square of patches an image."""
    tokenizer = tiny_tokenizer("<image>")
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=USER_ASSISTANT,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION, image_size=28, patch_size=14),
        text_config=LlamaConfig(**TEXT, vocab_size=len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
    )
    return LlavaForConditionalGeneration(config), processor


def llava_onevision() -> tuple[PreTrainedModel, ProcessorMixin]:
    """LLaVA-OneVision: tiles by the image's shape, rows ended by a newline vector."""
    tokenizer = tiny_tokenizer("<image>", "<video>", "<|im_start|>", "<|im_end|>")
    pinpoints = [[28, 28], [28, 56], [56, 28], [56, 56]]
    images = LlavaOnevisionImageProcessorPil(
        size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints
    )
    processor = without_videos(LlavaOnevisionProcessor)(
        images,
        tokenizer,
        NoVideoProcessor(),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=CHATML.replace("PLACEHOLDER", "<image>\n"),
    )
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION, image_size=28, patch_size=14),
        text_config=Qwen2Config(**TEXT, vocab_size=len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


def qwen2_5_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen2.5-VL: any resolution, positions along three axes."""
    specials = (
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    )
    tokenizer = tiny_tokenizer(*specials)
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 12}
    )
    template = CHATML.replace(
        "PLACEHOLDER", "<|vision_start|><|image_pad|><|vision_end|>"
    )
    processor = without_videos(Qwen2_5_VLProcessor)(
        images, tokenizer, NoVideoProcessor(), chat_template=template
    )
    ids = {
        name: tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        for name in ("vision_start", "vision_end")
    }
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48,
            "num_heads": 2, "out_hidden_size": 32,
            "window_size": 56, "fullatt_block_indexes": [1],
        },
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer),
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2],
            },
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen3-VL: visual features enter the first layers too (DeepStack)."""
    specials = (
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    )
    tokenizer = tiny_tokenizer(*specials)
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 12}, patch_size=16
    )
    template = CHATML.replace(
        "PLACEHOLDER", "<|vision_start|><|image_pad|><|vision_end|>"
    )
    processor = without_videos(Qwen3VLProcessor)(
        images, tokenizer, NoVideoProcessor(), chat_template=template
    )
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in (
        "vision_start", "vision_end", "image_pad", "video_pad",
    )}  # fmt: skip
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48,
            "num_heads": 2, "out_hidden_size": 32,
            "patch_size": 16, "spatial_merge_size": 2, "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        },
        text_config={
            **TEXT,
            "head_dim": 8,
            "vocab_size": len(tokenizer),
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2],
            },
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )  # fmt: skip
    return Qwen3VLForConditionalGeneration(config), processor


def smolvlm() -> tuple[PreTrainedModel, ProcessorMixin]:
    """SmolVLM2: tiles, each between words that say where it stands."""
    tokenizer = _tokenizer_of_tiles()
    images = SmolVLMImageProcessorPil(
        size={"longest_edge": 112}, max_image_size={"longest_edge": 56}
    )
    processor = without_videos(SmolVLMProcessor)(
        images, tokenizer, NoVideoProcessor(), image_seq_len=4, chat_template=UTTERANCES
    )
    config = SmolVLMConfig(**_of_tiles(tokenizer))
    return SmolVLMForConditionalGeneration(config), processor


def idefics3() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Idefics3, which the first SmolVLM is too."""
    tokenizer = _tokenizer_of_tiles()
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 112}, max_image_size={"longest_edge": 56}
    )
    processor = Idefics3Processor(
        images, tokenizer, image_seq_len=4, chat_template=UTTERANCES
    )
    return Idefics3ForConditionalGeneration(
        Idefics3Config(**_of_tiles(tokenizer))
    ), processor


ARCHITECTURES: tuple[Callable[[], tuple[PreTrainedModel, ProcessorMixin]], ...] = (
    llava,
    llava_onevision,
    qwen2_5_vl,
    qwen3_vl,
    smolvlm,
    idefics3,
)


def production_model(
    architecture: Callable[[], tuple[PreTrainedModel, ProcessorMixin]],
    summary: SummaryConfig = SUMMARY,
) -> SummaryLvlm:
    """With summary tokens; the same weights at every call, large enough that every part shows in
    the logits.
    """
    torch.manual_seed(2)
    model, processor = architecture()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=1 / math.sqrt(weight[0].numel()))
            elif weight.ndim == 1 and not weight.any():
                weight.normal_(std=0.1)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    return SummaryLvlm(model.eval(), processor, summary).eval()


def _tokenizer_of_tiles() -> object:
    places = [
        f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)
    ]
    return tiny_tokenizer(
        "<fake_token_around_image>",
        "<image>",
        "<end_of_utterance>",
        "<global-img>",
        "<|im_start|>",
        *places,
    )


def _of_tiles(tokenizer: object) -> dict[str, object]:
    return {
        "vision_config": {**VISION, "image_size": 56, "patch_size": 14},
        "text_config": LlamaConfig(
            **TEXT, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id
        ),
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "pad_token_id": tokenizer.pad_token_id,
        "scale_factor": 2,
    }
