"""Single forward: the kept states stand for one sequence whose mask hides the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from compressor.errors import DataInvalid, ModelFilesInvalid, RecipeInvalid
from compressor.fwd2bot import adapter_folder, single_forward
from compressor.fwd2bot.adapter_folder import base_name
from compressor.fwd2bot.config import ForwardKind, SummaryConfig
from compressor.fwd2bot.generator import LvlmGenerator, whole_answers
from compressor.fwd2bot.load import assemble, load_production
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import GenerationLimits, GenerationRequest, Turn
from compressor.training import trainer
from compressor.training.config import TrainConfig
from compressor.training.grad_cache import backward
from compressor.training.packing import pack_behind_states, tokenize
from tests.compressor.production import SUMMARY, llava, production_model, qwen2_5_vl
from tests.compressor.tiny import trained
from tests.compressor.training.samples import (
    Stream,
    ready,
    sample,
    stepped,
    tiny_lvlm,
    uneven_batch,
)
from tests.compressor.training.test_cli import researchers_folder
from tests.conformance.summary_model_suite import pictures

TURNS = [("user", "What is in the image?")]
RECIPE = TrainConfig(contrastive_weight=1.0, workers=0)


@pytest.fixture
def model() -> SummaryLvlm:
    """With one adapter for image and conversation, so that one sequence can be run at once."""
    return trained(tiny_lvlm(forward="single", adapters="shared"))


def tokens(model: SummaryLvlm) -> torch.Tensor:
    with torch.no_grad():
        return model.first_pass(model.first_pass_inputs(pictures()[:2])).tokens


def one_sequence(model: SummaryLvlm, text: torch.Tensor) -> torch.Tensor:
    """(2, T, D) of (2, T, D) embeddings behind the first pass, which they see K tokens of."""
    prompt = model._prompt_of(model.first_pass_inputs(pictures()[:2]))
    count, behind = prompt.inputs_embeds.shape[1], text.shape[1]
    embeddings = torch.cat([prompt.inputs_embeds, text], dim=1)
    sees = torch.ones(count + behind, count + behind, dtype=torch.bool).tril()
    sees[count:, : count - model.config.token_count] = False
    with torch.no_grad(), model.adapters.use("first_pass"):
        outputs = model.decoder(
            inputs_embeds=embeddings,
            attention_mask=sees.expand(len(text), 1, -1, -1),
            position_ids=torch.arange(count + behind).unsqueeze(0),
            use_cache=False,
        )
    return outputs.last_hidden_state[:, count:]


def test_a_prompt_is_read_as_in_one_sequence_that_hides_the_image(
    model: SummaryLvlm,
) -> None:
    ids = [
        token for token in model.prompt_ids(1, TURNS) if token != model.image_token_id
    ]
    text = model.embedding(torch.tensor([ids, ids]))
    expected = one_sequence(model, text)

    prompt = model.second_pass_prompt([[row] for row in tokens(model)], [TURNS, TURNS])
    assert prompt.states_before is not None
    with torch.no_grad(), model.adapters.use("second_pass"):
        cache = single_forward.cache_of(
            prompt.states_before, model.base.config.get_text_config(), torch.float32
        )
        found = model.decoder(**prompt.inputs, past_key_values=cache).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_training_reads_what_serving_reads(model: SummaryLvlm) -> None:
    """The packed conversation's states are those of one sequence; so is its loss."""
    turns = sample(0).conversations
    tokenized = [tokenize(model, turns[:1]), tokenize(model, turns[:1])]
    packed = pack_behind_states(model, [[row] for row in tokens(model)], tokenized)
    with torch.no_grad():
        found = model.second_pass(packed.inputs)
        ids = [token for token in tokenized[0].ids if token != model.image_token_id]
        text = model.embedding(torch.tensor([ids, ids]))
    expected = one_sequence(model, text)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert packed.predicts.sum() == 2 * tokenized[0].answer_tokens


def test_conversations_about_an_image_do_not_see_each_other(model: SummaryLvlm) -> None:
    one, other = sample(0).conversations
    rows = [[row] for row in tokens(model)]

    def losses(turns: Any) -> torch.Tensor:
        packed = pack_behind_states(model, rows, [tokenize(model, turns)] * 2)
        hidden = model.second_pass(packed.inputs)[packed.predicts]
        return model.output_head(hidden)[: tokenize(model, [one]).answer_tokens]

    with torch.no_grad():
        torch.testing.assert_close(
            losses([one, other]), losses([one]), atol=1e-4, rtol=1e-4
        )


def test_states_in_a_cache_and_back() -> None:
    config = tiny_lvlm().base.config.get_text_config()
    states = torch.randn(2, 3, single_forward.states_size(config))
    cache = single_forward.cache_of(states, config, torch.float32)
    assert isinstance(cache, DynamicCache)
    assert cache.get_seq_length() == 3
    torch.testing.assert_close(single_forward.last_states(cache, 3), states)


def test_answers_depend_on_the_image_and_embeddings_stay() -> None:
    single = trained(tiny_lvlm(forward="single"))
    double = trained(tiny_lvlm())
    summary = LvlmSummaryModel(single, "0" * 32).compress(pictures())
    assert summary.tokens.shape[1:] == LvlmSummaryModel(single, "0" * 32).tokens_shape
    expected = LvlmSummaryModel(double, "0" * 32).compress(pictures())
    torch.testing.assert_close(
        torch.tensor(summary.embeddings),
        torch.tensor(expected.embeddings),
        atol=1e-4,
        rtol=1e-4,
    )
    requests = [
        GenerationRequest([rows], [Turn("user", question)])
        for rows in summary.tokens
        for question in ("What?", "Which colour is the thing in the image?")
    ]
    limits = [GenerationLimits(6)] * len(requests)
    together = whole_answers(LvlmGenerator(single), requests, limits)
    in_parts = whole_answers(LvlmGenerator(single, 3), requests, limits)
    alone = [
        whole_answers(LvlmGenerator(single), [request], limits[:1])[0]
        for request in requests
    ]
    assert together == alone == in_parts
    assert len(set(alone)) > 2


def test_both_losses_train_both_adapters_and_the_summary_tokens() -> None:
    model = trained(tiny_lvlm(forward="single"))
    stepped(model, [sample(0), sample(1)], RECIPE).autoregressive.backward()
    for part in ("first_pass", "second_pass"):
        # The last layer's output projections of the first pass reach no state.
        gradients = [
            parameter.grad.abs().sum()
            for name, parameter in model.trained_parameters()
            if f".{part}." in name and parameter.grad is not None
        ]
        assert torch.stack(gradients).sum() > 0
    assert model.embedding.summary.grad.abs().sum() > 0


def test_micro_batches_have_the_gradients_of_the_whole() -> None:
    batch = uneven_batch()
    found = []
    for size in (len(batch), 3):
        model = trained(tiny_lvlm(forward="single"))
        backward(model, ready(model, batch, RECIPE, size), RECIPE)
        found.append(
            {
                name: parameter.grad
                for name, parameter in model.trained_parameters()
                if parameter.grad is not None
            }
        )
    assert found[0].keys() == found[1].keys()
    for name, whole in found[0].items():
        torch.testing.assert_close(found[1][name], whole, atol=1e-5, rtol=1e-3)


def test_positions_along_several_axes_are_counted_from_the_end() -> None:
    """Qwen2.5-VL gives an image fewer positions than tokens."""
    config = SummaryConfig(**(vars(SUMMARY) | {"forward": ForwardKind.SINGLE}))
    model = trained(production_model(qwen2_5_vl, config))
    images = pictures()
    with torch.no_grad():
        together = model.first_pass(model.first_pass_inputs(images)).tokens
        alone = [
            model.first_pass(model.first_pass_inputs([image])).tokens[0]
            for image in images
        ]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("budgets", (2, 8)),
        ("fsdp", True),
        ("gradient_checkpointing", True),
        ("second_pass_input", "mean pooling"),
    ],
)
def test_what_single_forward_cannot_do_is_refused(
    field: str, value: object, tmp_path: Path
) -> None:
    values = {"workers": 0, "contrastive_weight": 0.0, "first_pass_lr": 0.0}
    config = TrainConfig(**values, **{field: value})
    steps = trainer.train(tiny_lvlm(forward="single"), Stream(), config, tmp_path)
    with pytest.raises(RecipeInvalid, match=field):
        next(steps)


def test_single_forward_is_not_trained_on_several_images_together() -> None:
    one = sample(0)
    together = replace(one, images=one.images * 2, caption="")
    with pytest.raises(DataInvalid, match="one image"):
        stepped(tiny_lvlm(forward="single"), [together], RECIPE)


def test_soft_words_are_no_single_forward() -> None:
    with pytest.raises(ValueError, match="forward must be double with soft words"):
        SummaryConfig("x", forward="single", readout="soft_words")


def test_it_is_not_served(tmp_path: Path) -> None:
    folder = researchers_folder(tmp_path) / "model"
    config = SummaryConfig(base_name(folder), token_count=3, forward="single")
    adapter_folder.save(assemble(folder, config, training=True), tmp_path / "trained")
    with pytest.raises(ModelFilesInvalid, match="single forward"):
        load_production(folder, tmp_path / "trained")


def test_no_summary_prompt_leaves_image_and_summary_tokens() -> None:
    model = production_model(llava, SUMMARY)
    bare = tiny_lvlm(summary_prompt="", token_count=SUMMARY.token_count)
    longer, shorter = (
        each.first_pass_inputs(pictures())["input_ids"] for each in (model, bare)
    )
    prompt = len(model.tokenizer(SUMMARY.summary_prompt)["input_ids"])
    assert 0 < longer.shape[1] - shorter.shape[1] <= prompt + 1
    assert torch.isfinite(stepped(bare, [sample(0), sample(1)], RECIPE).contrastive)
