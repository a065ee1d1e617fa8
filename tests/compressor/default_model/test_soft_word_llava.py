"""The default model's base: soft words that training never changes, and a learned part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from compressor.default_model import vision_tower
from compressor.default_model.names import class_names, name_token_ids
from compressor.default_model.soft_word_projector import (
    GIST_TOKENS,
    NAME_TOKENS,
    SoftWordProjector,
)
from compressor.default_model.two_towers import TwoTowersOutput
from compressor.errors import DataInvalid
from compressor.fwd2bot.baselines import all_visual_tokens
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.load import assemble
from compressor.training import base_parts
from compressor.training.batch import Batch
from compressor.training.config import TrainConfig
from compressor.training.sample import QA, Sample
from tests.compressor.tiny import (
    GRID,
    HIDDEN,
    VISUAL_TOKENS,
    tiny_base,
    tiny_tokenizer,
    towers,
    vision_config,
)

CELLS = GRID**2


@pytest.fixture
def projector() -> SoftWordProjector:
    return tiny_base()[0].projector


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base as an LVLM in a folder."""
    target = tmp_path_factory.mktemp("base")
    for part in tiny_base():
        part.save_pretrained(target)
    return target


def seen(count: int = 2) -> TwoTowersOutput:
    """What both towers might have seen."""
    draw = torch.Generator().manual_seed(3)
    features = vision_config().feature_size

    def random(*size: int) -> torch.Tensor:
        return torch.rand(count, *size, generator=draw)

    return TwoTowersOutput(
        cells=random(CELLS, towers().cell_size),
        cell_names=random(CELLS, features),
        picture_names=random(features),
        picture=random(10),
    )


def test_untrained_visual_tokens_are_the_soft_words(
    projector: SoftWordProjector,
) -> None:
    """Class probabilities times the names' embeddings, of each cell and of the whole."""
    given = seen()
    tokens = projector(given)
    assert tokens.shape == (2, VISUAL_TOKENS, HIDDEN)
    logits = given.cell_names @ projector.class_weight.T + projector.class_bias
    of_cells = (0.5 * logits).softmax(-1) @ projector.mean_name_words
    torch.testing.assert_close(tokens[:, :CELLS], of_cells)
    mean = given.picture_names @ projector.class_weight.T + projector.class_bias
    names = (2.0 * mean).softmax(-1)
    gist = names @ projector.mean_name_words
    for place in range(GIST_TOKENS):
        torch.testing.assert_close(tokens[:, CELLS + place], gist)
    for place in range(NAME_TOKENS):
        word = names @ projector.name_words[:, place]
        torch.testing.assert_close(tokens[:, CELLS + GIST_TOKENS + place], word)


def test_training_moves_the_learned_part_alone(projector: SoftWordProjector) -> None:
    before = {name: value.clone() for name, value in projector.named_buffers()}
    optimizer = torch.optim.AdamW(projector.parameters(), lr=1e-2)
    first = projector(seen()).detach()
    for _ in range(3):
        optimizer.zero_grad()
        projector(seen()).square().mean().backward()
        optimizer.step()
    for name, value in projector.named_buffers():
        assert torch.equal(value, before[name])
    assert not torch.allclose(projector(seen()), first)


def test_a_name_is_its_first_three_tokens_and_its_last() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer(" coffee mug and more of it", add_special_tokens=False)["input_ids"]
    assert len(ids) > NAME_TOKENS
    long = name_token_ids("coffee mug and more of it", tokenizer)
    assert long == [*ids[:3], ids[-1]]
    short = name_token_ids("cat", tokenizer)
    assert len(short) == NAME_TOKENS
    assert short[-1] == short[-2]


def test_each_output_of_the_tower_has_a_name() -> None:
    names = class_names()
    assert len(names) == vision_tower.EfficientNetLiteConfig().num_classes
    assert names[207] == "golden retriever"
    assert (
        len(set(names)) == len(names) - 2
    )  # a crane is a bird and a machine, a maillot two suits


def test_the_folder_loads_like_any_other_lvlm(folder: Path) -> None:
    """By the generic loader; all visual tokens stand in the prompt."""
    model = assemble(folder, SummaryConfig("tiny", token_count=4, lora_rank=2))
    images = [Image.new("RGB", (90, 50), colour) for colour in ("red", "blue")]
    vectors = model.visual_vectors(images)
    assert [tuple(rows.shape) for rows in vectors] == [(VISUAL_TOKENS, HIDDEN)] * 2
    assert not torch.allclose(vectors[0], vectors[1])
    first = model.first_pass(model.first_pass_inputs(images))
    assert first.tokens.shape == (2, 4, HIDDEN)


def renamed(name: str, **model_inputs: tuple[int, ...]) -> Sample:
    image = Image.new("RGB", (90, 50), "red")
    return Sample(
        (image,), (QA("What?", name, "name"),), name, "", None, (), model_inputs
    )


def test_a_sample_may_spell_another_name_for_its_picture(folder: Path) -> None:
    """Both the first pass and the teacher, which reads all visual tokens, then read that name."""
    model = assemble(folder, SummaryConfig("tiny", token_count=4, lora_rank=2))
    ids = tuple(name_token_ids("coffee mug", model.tokenizer))
    samples = [renamed("Mug", name_ids=ids), renamed("Red")]
    batch = Batch.of(model, samples, TrainConfig(steps=1, distillation_weight=1.0))
    assert batch.visual is not None
    own, others = all_visual_tokens(model, batch.visual)
    assert torch.equal(own[:-NAME_TOKENS], others[:-NAME_TOKENS])
    words = model.embedding.weight[torch.tensor(ids)]
    torch.testing.assert_close(own[-NAME_TOKENS:], words)
    plain = model.visual_vectors([samples[1].images[0]])[0]
    torch.testing.assert_close(others, plain)
    tokens = model.first_pass(batch.inputs).tokens
    assert not torch.allclose(tokens[0], tokens[1])


def test_another_name_may_be_mixed_with_the_naming_towers(folder: Path) -> None:
    model = assemble(folder, SummaryConfig("tiny", token_count=4, lora_rank=2))
    ids = tuple(name_token_ids("coffee mug", model.tokenizer))
    samples = [
        renamed("Mug", name_ids=ids, name_percent=(70,)),
        renamed("Mug", name_ids=ids),
        renamed("Red"),
    ]
    batch = Batch.of(model, samples, TrainConfig(steps=1, distillation_weight=1.0))
    assert batch.visual is not None
    mixed, whole, towers = (
        tokens[-NAME_TOKENS:] for tokens in all_visual_tokens(model, batch.visual)
    )
    words = model.embedding.weight[torch.tensor(ids)]
    torch.testing.assert_close(mixed, 0.7 * words + 0.3 * towers)
    torch.testing.assert_close(
        towers, model.visual_vectors([samples[2].images[0]])[0][-NAME_TOKENS:]
    )
    # A name without a share takes all of the tokens, whatever the samples beside it have.
    torch.testing.assert_close(whole, words)


@pytest.mark.parametrize(
    ("model_inputs", "message"),
    [
        ({"name_ids": (1, 2, 3, 4)}, "has 4 numbers in one sample and 2 in another"),
        ({"depth": (1, 2)}, "the model takes no `depth` of `model_inputs`"),
    ],
)
def test_inputs_that_the_model_cannot_take_are_one_line(
    folder: Path, model_inputs: dict[str, tuple[int, ...]], message: str
) -> None:
    model = assemble(folder, SummaryConfig("tiny", token_count=4, lora_rank=2))
    samples = [renamed("Mug", **model_inputs), renamed("Cup", name_ids=(1, 2))]
    with pytest.raises(DataInvalid, match=message):
        Batch.of(model, samples, TrainConfig(steps=1))


def test_the_projector_stays_in_float32_in_a_bfloat16_model(folder: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16)
    assert model.projector.class_weight.dtype == torch.float32
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16


def test_tuned_parts_hold_the_learned_part_and_no_word(
    folder: Path, tmp_path: Path
) -> None:
    model = assemble(folder, SummaryConfig("tiny", token_count=1, lora_rank=2))
    modules = ("multi_modal_projector",)
    base_parts.make_trainable(model, modules)
    base_parts.save(model, modules, tmp_path)
    names = set(load_file(tmp_path / "base_modules.safetensors"))
    assert any(name.endswith("cell.leave.weight") for name in names)
    assert not any("class_weight" in name or "name_words" in name for name in names)
