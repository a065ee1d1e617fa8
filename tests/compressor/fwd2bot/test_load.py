"""Production LVLMs through the same code: both ports' suites, the own logits, save and load, a
training step.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from compressor.errors import BaselineUnavailable, ImageRefused
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import GenerationLimits, Generator, SummaryModel
from compressor.training.config import TrainConfig
from tests.compressor.production import (
    ARCHITECTURES,
    production_model,
    qwen2_5_vl,
    qwen3_vl,
)
from tests.compressor.tiny import trained
from tests.compressor.training.samples import sample, stepped
from tests.conformance.generator_suite import GeneratorSuite
from tests.conformance.summary_model_suite import SummaryModelSuite, pictures

QUESTIONS = [
    [("user", "What is in the image?")],
    [("user", "Why?")],
    [("user", "Is there a cat, or a dog?")],
]


@pytest.fixture(
    scope="module", params=ARCHITECTURES, ids=lambda architecture: architecture.__name__
)
def model(request: pytest.FixtureRequest) -> SummaryLvlm:
    made = production_model(request.param)
    made.requires_grad_(False)
    return made


@pytest.fixture(params=ARCHITECTURES, ids=lambda architecture: architecture.__name__)
def trainable(request: pytest.FixtureRequest) -> SummaryLvlm:
    return trained(production_model(request.param))


def own_inputs(model: SummaryLvlm) -> dict[str, torch.Tensor]:
    """The processor's, by its own interface."""
    messages = [
        [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": asked[0][1]}],
            }
        ]
        for asked in QUESTIONS
    ]
    texts = [
        model.processor.apply_chat_template(each, add_generation_prompt=True)
        for each in messages
    ]
    model.tokenizer.padding_side = "left"
    images = [[image] for image in pictures()[:3]]
    return dict(
        model.processor(images=images, text=texts, return_tensors="pt", padding=True)
    )


def test_a_first_pass_asks_the_template_for_nothing_it_does_not_know(
    model: SummaryLvlm, caplog: pytest.LogCaptureFixture
) -> None:
    model.first_pass_inputs(pictures()[:2])
    assert caplog.text == ""


def test_all_visual_tokens_give_the_models_own_logits(model: SummaryLvlm) -> None:
    images = pictures()[:3]
    with torch.no_grad(), model.adapters.use(None):
        expected = model.base(**own_inputs(model), use_cache=False).logits
        prompt = model.uncompressed_prompt([[image] for image in images], QUESTIONS)
        found = model.output_head(model.second_pass(prompt.inputs))
    assert found.shape == expected.shape
    assert expected[prompt.attention_mask.bool()].std() > 0.1
    torch.testing.assert_close(
        found[prompt.attention_mask.bool()],
        expected[prompt.attention_mask.bool()],
        atol=1e-4,
        rtol=1e-4,
    )


def test_an_uncompressed_prompt_is_answered_as_the_models_own_generate_does(
    model: SummaryLvlm,
) -> None:
    images = pictures()[:3]
    count = 6
    with torch.no_grad(), model.adapters.use(None):
        inputs = own_inputs(model)
        written = model.base.generate(**inputs, max_new_tokens=count, do_sample=False)
        prompt = model.uncompressed_prompt([[image] for image in images], QUESTIONS)
    expected = []
    for row in written[:, -count:].tolist():
        ends = [place for place, token in enumerate(row) if token in model.end_ids]
        text = model.tokenizer.decode(
            row[: min([*ends, count])], skip_special_tokens=True
        )
        expected.append(_readable(text))
    answers = [""] * 3
    for piece in LvlmGenerator(model).answer(prompt, [GenerationLimits(count)] * 3):
        answers[piece.request] += piece.text
    assert [_readable(answer) for answer in answers] == expected
    assert any(answers)


def _readable(answer: str) -> str:
    """Without halves of characters, which a stream holds back, and white space at the ends."""
    return answer.replace("\ufffd", " ").strip()


def test_visual_tokens_that_are_not_all_of_an_image_are_refused() -> None:
    model = production_model(qwen3_vl)
    with (
        torch.no_grad(),
        pytest.raises(BaselineUnavailable, match="deepstack_visual_embeds"),
    ):
        model.visual_vectors(pictures()[:1])


def test_visual_vectors_stand_where_summary_tokens_would(model: SummaryLvlm) -> None:
    if model.base.config.model_type == "qwen3_vl":
        pytest.skip("refused: see above")
    images = pictures()[:3]
    with torch.no_grad():
        vectors = model.visual_vectors(images)
        own = model.uncompressed_prompt([[image] for image in images], QUESTIONS)
        assembled = model.second_pass_prompt([[each] for each in vectors], QUESTIONS)
        alone = [model.visual_vectors([image])[0] for image in images]
    assert assembled.lengths == own.lengths
    torch.testing.assert_close(
        assembled.inputs_embeds[own.attention_mask.bool()],
        own.inputs_embeds[own.attention_mask.bool()],
    )
    for one, of_many in zip(alone, vectors, strict=True):
        torch.testing.assert_close(one, of_many, atol=1e-5, rtol=1e-5)


def test_the_image_shows_in_the_summary_tokens(model: SummaryLvlm) -> None:
    with torch.no_grad():
        tokens = model.first_pass(model.first_pass_inputs(pictures())).tokens
    assert tokens.shape == (4, 4, model.hidden_size)
    assert torch.pdist(tokens.flatten(1)).min() > 1e-2


def test_positions_of_a_first_pass_do_not_leak_into_a_second(
    model: SummaryLvlm,
) -> None:
    """Some models keep the positions of the last image for the next call."""
    with torch.no_grad():
        tokens = model.first_pass(model.first_pass_inputs(pictures())).tokens
        prompt = model.second_pass_prompt([[tokens[0]]], QUESTIONS[:1])
        found = []
        for images in (pictures()[:1], pictures()[1:3]):
            model.first_pass(model.first_pass_inputs(images))
            outputs = model.base(
                inputs_embeds=prompt.inputs_embeds,
                attention_mask=prompt.attention_mask,
                position_ids=prompt.position_ids,
            )
            found.append(outputs.logits)
    assert torch.equal(*found)


def test_saved_and_loaded_it_makes_the_same_tokens(
    trainable: SummaryLvlm, tmp_path: Path
) -> None:
    with torch.no_grad():
        for name, parameter in trainable.trained_parameters():
            if "lora" in name:
                parameter.copy_(parameter.half())  # what the file keeps
    adapter_folder.save(trainable, tmp_path)
    loaded = next(
        made
        for made in map(production_model, ARCHITECTURES)
        if type(made.base) is type(trainable.base)
    )
    adapter_folder.load(loaded, tmp_path)
    with torch.no_grad():
        expected, found = (
            each.first_pass(each.first_pass_inputs(pictures()[:2])).tokens
            for each in (trainable, loaded)
        )
    assert torch.equal(found, expected)


def test_training_steps_lower_the_loss_and_reach_both_adapters(
    trainable: SummaryLvlm,
) -> None:
    batch, recipe = (
        [sample(number) for number in range(3)],
        TrainConfig(batch_size=3),
    )
    optimiser = torch.optim.AdamW(
        [p for _, p in trainable.trained_parameters()], lr=1e-2
    )
    history = []
    for step in range(5):
        total = stepped(trainable, batch, recipe).total(recipe)
        history.append(float(total.detach()))
        optimiser.zero_grad()
        total.backward()
        if step == 0:
            reached = [
                n
                for n, p in trainable.trained_parameters()
                if p.grad is not None and p.grad.abs().sum() > 0
            ]
            for part in (
                "lora_A.first_pass",
                "lora_A.second_pass",
                ".summary",
                "head.text.weight",
            ):
                assert any(part in name for name in reached), part
        optimiser.step()
    assert history[-1] < 0.9 * history[0], history


class TestProductionSummaryModel(SummaryModelSuite):
    tolerance = 1e-4

    @pytest.fixture(
        scope="class",
        params=ARCHITECTURES,
        ids=lambda architecture: architecture.__name__,
    )
    @classmethod
    def model(cls, request: pytest.FixtureRequest) -> SummaryModel:
        return ports(request.param)[0]


class TestProductionGenerator(GeneratorSuite):
    @pytest.fixture(
        scope="class",
        params=ARCHITECTURES,
        ids=lambda architecture: architecture.__name__,
    )
    @classmethod
    def made(cls, request: pytest.FixtureRequest) -> tuple[SummaryModel, Generator]:
        return ports(request.param)


def ports(architecture: object) -> tuple[SummaryModel, Generator]:
    made = trained(production_model(architecture))
    made.requires_grad_(False)
    return LvlmSummaryModel(made, "0" * 32, batch_size=3), LvlmGenerator(made)


@pytest.mark.parametrize(
    "architecture", [qwen2_5_vl, qwen3_vl], ids=lambda made: made.__name__
)
def test_a_picture_that_a_model_does_not_read_is_named_by_its_place(
    architecture: object,
) -> None:
    model = ports(architecture)[0]  # in batches of 3
    thread = Image.new("RGB", (768, 1))
    images = [*pictures(), thread, *pictures()]
    with pytest.raises(ImageRefused, match=r"picture 4 of the batch.*ratio") as raised:
        model.compress(images)
    assert raised.value.index == 4
    assert "\n" not in str(raised.value)
    images.pop(raised.value.index)
    assert len(model.compress(images).tokens) == len(images)
