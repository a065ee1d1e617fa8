"""The default model's base: an ordinary LLaVA-style folder made from packages' checkpoints.

CLIP ViT-B/16 beside EfficientNet-Lite2, `SoftWordProjector`, and SmolLM2-135M-Instruct. `precis
train base` tunes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from transformers import CLIPVisionConfig, LlavaProcessor

from compressor.default_model.checkpoints import (
    IMAGE_TOKEN,
    load_clip,
    load_language_model,
    load_tokenizer,
    load_vision_tower,
    make_processor,
)
from compressor.default_model.names import (
    class_names,
    mean_embedding,
    name_token_ids,
)
from compressor.default_model.soft_word_llava import (
    SoftWordLlavaConfig,
    SoftWordLlavaForConditionalGeneration,
)
from compressor.default_model.soft_word_projector import PICTURE_TOKENS
from compressor.default_model.two_towers import TwoTowersConfig
from compressor.default_model.vision_tower import EfficientNetLiteConfig
from compressor.fwd2bot.progress_bars import no_progress_bars
from compressor.training import base_parts

# CLIP was trained at 224 px. By what it sees at 192 px captions find as many pictures, at 160 px a
# tenth fewer; its time grows with the area.
_CLIP_SIZE_PX = 192

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


def write_base(folder: Path, parts: Path | None = None) -> None:
    """Writes the base as an LVLM in `folder`, with what `precis train base` learnt merged.

    Without `parts` it is untuned. Raises ModelFilesMissing, ModelFilesInvalid.
    """
    model, processor = assemble_base()
    if parts is not None:
        base_parts.merge(model, parts)
        # As `precis train base` writes it, which loads the towers with a number format of their
        # own: adapters know their base by its configuration.
        vision = cast(TwoTowersConfig, model.config.vision_config)
        for config in (vision, vision.names, vision.clip):
            config.dtype = torch.float32
    with no_progress_bars():
        model.save_pretrained(folder)
    processor.save_pretrained(folder)


def assemble_base() -> tuple[SoftWordLlavaForConditionalGeneration, LlavaProcessor]:
    """The untuned base in float32. Raises ModelFilesMissing, ModelFilesInvalid."""
    vision = TwoTowersConfig(
        name_config=EfficientNetLiteConfig(),
        clip_config=CLIPVisionConfig(patch_size=16, image_size=_CLIP_SIZE_PX),
    )
    tokenizer = load_tokenizer()
    processor = make_processor(
        tokenizer,
        CHAT_TEMPLATE,
        vision.image_size,
        patch_size=vision.image_size // vision.grid_size,
        additional_tokens=PICTURE_TOKENS,
    )
    language = load_language_model(len(tokenizer))
    config = SoftWordLlavaConfig(
        vision_config=vision,
        text_config=language.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=vision.grid_size**2 + PICTURE_TOKENS,
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
    name_tower, classifier = load_vision_tower(vision.names)
    model.model.vision_tower.name_tower.load_state_dict(name_tower)
    model.model.vision_tower.clip.load_state_dict(load_clip(vision))
    embedding = language.get_input_embeddings().weight.detach()
    names = class_names()
    name_ids = torch.tensor([name_token_ids(name, tokenizer) for name in names])
    means = [mean_embedding(name, tokenizer, embedding) for name in names]
    model.projector.set_words(
        classifier["weight"],
        classifier["bias"],
        name_words=embedding[name_ids],
        mean_name_words=torch.stack(means),
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor
