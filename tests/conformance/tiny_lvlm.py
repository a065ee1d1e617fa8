"""A LLaVA of a few thousand random weights with a real processor: the real passes, without a
checkpoint.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.summary_model import LvlmSummaryModel

IMAGE_TOKEN = "<image>"
WORDS = [
    IMAGE_TOKEN,
    "<pad>",
    "</s>",
    "<unk>",
    "?",
    ".",
    "what",
    "is",
    "in",
    "the",
    "image",
    "why",
    "a",
]
WORDS += [f"word{number}" for number in range(51)]
SIDE_PX, PATCH_PX = 28, 14
CONTEXT_TOKENS = 256
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- for part in message.content -%}
{%- if part.type == 'image' %} <image>{% else %} {{ part.text }}{% endif -%}
{%- endfor -%}
{%- endfor -%}"""


def _words() -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def _bytes() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(WORDS[:4] + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def tiny_lvlm(
    *, of_bytes: bool = False, hidden_size: int = 32, **changes: object
) -> tuple[LvlmSummaryModel, LvlmGenerator]:
    """First and second pass over one set of weights, the same at every call.

    Its tokens are a few words, or all bytes, with which it can write anything. `changes` are to its
    SummaryConfig.
    """
    backend = _bytes() if of_bytes else _words()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[IMAGE_TOKEN],
    )
    images = CLIPImageProcessorPil(
        size={"height": SIDE_PX, "width": SIDE_PX},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH_PX,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=1,
    )
    small = {
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **small, image_size=SIDE_PX, patch_size=PATCH_PX
        ),
        text_config=LlamaConfig(
            **small,
            num_key_value_heads=2,
            vocab_size=backend.get_vocab_size(),
            max_position_embeddings=CONTEXT_TOKENS,
        ),
        image_token_index=WORDS.index(IMAGE_TOKEN),
        vision_feature_select_strategy="default",
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = WORDS.index("</s>")
    with warnings.catch_warnings():
        # PEFT 0.21 reads a property that Transformers has renamed.
        warnings.filterwarnings(
            "ignore", ".*is_gradient_checkpointing.*", FutureWarning
        )
        config = SummaryConfig("tiny", token_count=4, embedding_size=16)
        summary = SummaryLvlm(model, processor, replace(config, **changes))
    summary.eval().requires_grad_(False)
    return LvlmSummaryModel(summary, "0" * 32, batch_size=3), LvlmGenerator(summary)
