"""Samples a second that one core prepares for training: JPEG decoded, LLaVA-1.5's image processor,
conversation tokenized.

A step is only as fast as its data. One core prepares everything here, as each worker process of a
training run does; the bar is a sixteenth of the 600 samples a second that a small language model on
one GPU reads with 16 cores beside it. Large sides of a JPEG cost most, so the images are about as
large as COCO's.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from bench.default_model import load
from bench.measure import Figure, report
from bench.photographs import write_jpegs
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.batch import Batch
from compressor.training.config import TrainConfig
from compressor.training.datasets import read
from compressor.training.distributed import SINGLE
from compressor.training.stream import Blend, Samples, prepared_steps

SIDE_PX, PATCH_PX = 336, 14  # of LLaVA-1.5's vision tower
SAMPLES = 128
BATCH_SIZE = 16
AT_LEAST = 600 / 16  # samples a second and core
TURNS = (
    (
        "What is happening in this picture?",
        "A person stands in front of a building and looks up.",
    ),
    ("What is the weather like?", "It is sunny, with a few clouds near the horizon."),
    (
        "Is anybody else there?",
        "Yes. Two people walk past in the background, a dog beside them.",
    ),
)
TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'user' %}USER: {% else %} ASSISTANT: {% endif -%}
{%- for part in message.content -%}
{%- if part.type == 'image' %}<image>
{% else %}{{ part.text }}{% endif -%}
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt %} ASSISTANT:{% endif -%}"""


def main() -> None:
    """Runs with the default model's tokenizer, a byte-level BPE of 49,000 tokens."""
    run(llava_1_5(load().lvlm.tokenizer), SAMPLES, rounds=3)


def llava_1_5(tokenizer: PreTrainedTokenizerBase) -> SummaryLvlm:
    """LLaVA-1.5's processor around a model of almost no weights, which the data never reach."""
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    images = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE_PX}, crop_size={"height": SIDE_PX, "width": SIDE_PX}
    )
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH_PX,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **small, num_attention_heads=1, image_size=SIDE_PX, patch_size=PATCH_PX
        ),
        text_config=LlamaConfig(
            **small,
            num_attention_heads=1,
            vocab_size=len(tokenizer),
            max_position_embeddings=4096,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return SummaryLvlm(model, processor, SummaryConfig("bench", token_count=16))


def run(model: SummaryLvlm, samples: int, rounds: int) -> None:
    """Prints the table and the JSON line."""
    # A worker process has one thread, whatever libraries would take.
    torch.set_num_threads(1)
    config = TrainConfig(
        steps=samples // BATCH_SIZE,
        batch_size=BATCH_SIZE,
        contrastive_weight=0,
        workers=0,
    )
    with TemporaryDirectory() as folder:
        source = written(Path(folder), samples)
        prepare = partial(Batch.of, model, config=config)
        decoded = [source[number] for number in range(BATCH_SIZE)]

        def all_steps() -> None:
            for _ in prepared_steps([source], prepare, config, SINGLE, first_step=0):
                pass

        all_steps()  # files read once, caches warm
        whole = samples / _median(all_steps, rounds)
        decode = samples / _median(lambda: [source[n] for n in range(samples)], rounds)
        process = BATCH_SIZE / _median(lambda: prepare(decoded), rounds)
    report(
        "data_pipeline",
        [
            Figure("samples_per_second_core", whole, at_least=AT_LEAST),
            Figure("decoded_per_second_core", decode),
            Figure("processed_and_tokenized_per_second_core", process),
            Figure("samples_per_second_on_16_cores_if_they_scale", 16 * whole),
        ],
    )
    torch.set_num_threads(os.cpu_count() or 1)


def written(folder: Path, count: int) -> Samples:
    """JPEGs and conversations about them, in LLaVA-instruct's format."""
    paths = write_jpegs(folder / "images", count)
    turns = []
    for question, answer in TURNS:
        turns += [
            {"from": "human", "value": question},
            {"from": "gpt", "value": answer},
        ]
    records = [{"image": path.name, "conversations": turns} for path in paths]
    (folder / "data.json").write_text(json.dumps(records))
    return Blend([read(folder / "data.json", folder / "images")], (), seed=1)


def _median(work: Callable[[], object], rounds: int) -> float:
    """Seconds of one core. Waiting for other processes of the machine does not count."""
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return median(taken)


if __name__ == "__main__":
    main()
