"""The default model's classes with a few thousand random weights and a tokenizer made here.

Reads no file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from compressor.default_model.base_model import CHAT_TEMPLATE
from compressor.default_model.checkpoints import IMAGE_TOKEN, make_processor
from compressor.default_model.names import name_token_ids
from compressor.default_model.soft_word_llava import (
    SoftWordLlavaConfig,
    SoftWordLlavaForConditionalGeneration,
)
from compressor.default_model.soft_word_projector import PICTURE_TOKENS
from compressor.default_model.two_towers import TwoTowersConfig
from compressor.default_model.vision_tower import EfficientNetLiteConfig
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.model import SummaryLvlm

SIDE_PX = 64
CONTEXT_TOKENS = 512
END_TOKEN = "<|end|>"
HIDDEN = 32
GRID = 3  # cells along one side
VISUAL_TOKENS = GRID**2 + PICTURE_TOKENS
NAMES = ("cat", "coffee mug", "space shuttle", "dog", "sports car", "tree")
TEXT = [
    "The picture shows a cat. What is in the image? A photo of a dog, two red apples and a kite.",
    "Question: is there an umbrella? Answer: Yes. How many fish are there? Three. What colour is "
    "the background? Blue.",
    " ".join(NAMES),
]
CONFIG = SummaryConfig(
    base_model="tiny",
    token_count=8,
    summary_prompt="A photo of a",
    readout="soft_words",
    embedding_size=16,
    embedding_layers=(1, -1),
    lora_rank=4,
    lora_alpha=4,
)
# (repeats, kernel_px, stride, expansion, input channels, output channels)
STAGES = (
    (1, 3, 1, 1, 8, 8),
    (2, 3, 2, 2, 8, 8),
    (1, 5, 2, 2, 8, 12),
    (1, 3, 2, 2, 12, 16),
    (1, 3, 2, 2, 16, 20),
)


def vision_config() -> EfficientNetLiteConfig:
    """A tower that turns 64 px into 2 × 2 cells."""
    return EfficientNetLiteConfig(
        image_size=SIDE_PX,
        stages=STAGES,
        stem_channels=8,
        feature_size=24,
        num_classes=len(NAMES),
        fine_block=4,
        fine_size=4 * 16,
        colour_size=4 * 3,
        hidden_size=24 + 4 * 16 + 4 * 3,
    )


@cache
def tokenizer_json() -> str:
    """A byte-level BPE as in SmolLM2, trained on three lines: it writes any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[END_TOKEN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """The tokenizer, with `special` tokens behind its vocabulary."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json()),
        eos_token=END_TOKEN,
        pad_token=END_TOKEN,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def towers() -> TwoTowersConfig:
    """Both towers; CLIP sees 24 px in patches of 4."""
    clip = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=24,
        patch_size=4,
        projection_dim=10,
    )
    return TwoTowersConfig(name_config=vision_config(), clip_config=clip)


def tiny_base(
    hidden_size: int = HIDDEN,
) -> tuple[SoftWordLlavaForConditionalGeneration, LlavaProcessor]:
    """The LVLM itself, the same weights at every call, in evaluation mode."""
    tokenizer = tiny_tokenizer(IMAGE_TOKEN)
    processor = make_processor(
        tokenizer,
        CHAT_TEMPLATE,
        SIDE_PX,
        patch_size=SIDE_PX // GRID,
        additional_tokens=PICTURE_TOKENS,
    )
    config = SoftWordLlavaConfig(
        vision_config=towers(),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT_TOKENS,
            initializer_range=0.3,
            tie_word_embeddings=True,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=VISUAL_TOKENS,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        projector_width=16,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = SoftWordLlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.model.vision_tower.name_tower.parameters():
            # Features of about the size of the pixels, or all pictures would look alike.
            inputs = max(1, weight[0].numel())
            weight.normal_(std=1.5 / inputs**0.5 if weight.ndim == 4 else 0.3)
    embedding = model.get_input_embeddings().weight.detach()
    ids = torch.tensor([name_token_ids(name, tokenizer) for name in NAMES])
    model.projector.set_words(
        torch.randn(len(NAMES), vision_config().feature_size),
        torch.randn(len(NAMES)),
        embedding[ids],
        embedding[ids].mean(1),
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model, processor


def tiny_model(hidden_size: int = HIDDEN, **changes: object) -> SummaryLvlm:
    """The same weights at every call, adapters untrained, in evaluation mode.

    `changes` are to its SummaryConfig.
    """
    base, processor = tiny_base(hidden_size)
    base.requires_grad_(False)
    return SummaryLvlm(base, processor, replace(CONFIG, **changes)).eval()


def trained(model: SummaryLvlm) -> SummaryLvlm:
    """The model with random weights where training changes them: every part has an effect."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.trained_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.1)
            elif name.endswith(".summary"):
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    return model
