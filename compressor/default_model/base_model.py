"""The default model's base: an ordinary LLaVA-style folder made from packages' checkpoints.

EfficientNet-Lite2, an untrained `SoftWordProjector` and SmolLM2-135M-Instruct. `precis train base`
tunes it; `compressor.training.base_parts` applies what was learnt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LlavaProcessor

from compressor.default_model.checkpoints import (
    IMAGE_TOKEN,
    load_language_model,
    load_tokenizer,
    load_vision_tower,
    make_processor,
)
from compressor.default_model.soft_word_llava import (
    SoftWordLlavaConfig,
    SoftWordLlavaForConditionalGeneration,
)
from compressor.default_model.soft_word_projector import NAME_TOKENS
from compressor.default_model.vision_tower import EfficientNetLiteConfig
from compressor.default_model.vocabulary import mean_embedding, name_token_ids

_CELL_PX = 32  # side of a cell: the tower halves the picture five times

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
    vision = EfficientNetLiteConfig()
    tokenizer = load_tokenizer()
    processor = make_processor(
        tokenizer,
        CHAT_TEMPLATE,
        vision.image_size,
        patch_size=_CELL_PX,
        additional_tokens=NAME_TOKENS,
    )
    language = load_language_model(len(tokenizer))
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
    tower, classifier = load_vision_tower(vision)
    model.model.vision_tower.load_state_dict(tower)
    embedding = language.get_input_embeddings().weight.detach()
    name_ids = torch.tensor([name_token_ids(name, tokenizer) for name in class_names])
    mean = mean_embedding(tokenizer, embedding)
    # With the space that a word has within a sentence: without it, it is another token.
    means = torch.stack([mean(f" {name}") for name in class_names])
    model.projector.set_words(
        classifier["weight"],
        classifier["bias"],
        name_words=embedding[name_ids],
        mean_name_words=means,
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor
