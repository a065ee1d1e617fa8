"""Soft words decoded one by one, through every production architecture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import Generator, SummaryModel
from tests.compressor.production import ARCHITECTURES, SUMMARY, production_model
from tests.conformance.generator_suite import GeneratorSuite
from tests.conformance.summary_model_suite import SummaryModelSuite, pictures

IN_TURN = replace(SUMMARY, readout="soft_words_in_turn", embedding_layers=(1, -1))


def model_of(architecture: object) -> SummaryLvlm:
    made = production_model(architecture, IN_TURN)
    made.requires_grad_(False)
    return made


@pytest.fixture(
    scope="module", params=ARCHITECTURES, ids=lambda architecture: architecture.__name__
)
def model(request: pytest.FixtureRequest) -> SummaryLvlm:
    return model_of(request.param)


def naive(model: SummaryLvlm, image: object) -> tuple[torch.Tensor, torch.Tensor]:
    """(K, D) soft words and (K, C) states of one image: no cache, no padding, the whole sequence at
    every step.
    """
    text = model.processor.apply_chat_template(
        [
            {
                "role": "user",
                "content": [
                    {"type": "image"},
                    {"type": "text", "text": IN_TURN.summary_prompt},
                ],
            }
        ],
        add_generation_prompt=True,
    )
    prompt = model.decoder_prompt(model._processed([[image]], [text]))
    sequence, positions = prompt.inputs_embeds, prompt.position_ids
    extras = dict(prompt.extras)
    if "visual_pos_masks" in extras:  # no soft word is an image
        later = IN_TURN.token_count
        extras["visual_pos_masks"] = torch.nn.functional.pad(
            extras["visual_pos_masks"], (0, later)
        )
    words = model.base.get_input_embeddings().weight
    with torch.no_grad(), model.adapters.use(None):
        for step in range(IN_TURN.token_count + 1):
            outputs = model.decoder(
                inputs_embeds=sequence,
                position_ids=positions,
                use_cache=False,
                output_hidden_states=True,
                **{name: _cut(value, sequence) for name, value in extras.items()},
            )
            if step < IN_TURN.token_count:
                logits = model.output_head(outputs.last_hidden_state[0, -1])
                shares = (logits / IN_TURN.temperature).softmax(-1)
                sequence = torch.cat([sequence, (shares @ words)[None, None]], dim=1)
                positions = torch.cat(
                    [positions, positions.max(-1, keepdim=True).values + 1], dim=-1
                )
    count = IN_TURN.token_count
    states = torch.cat(
        [
            outputs.hidden_states[layer][0, -count:]
            for layer in IN_TURN.embedding_layers
        ],
        dim=-1,
    )
    return sequence[0, -count:], states


def _cut(value: object, sequence: torch.Tensor) -> object:
    """A mask as long as the sequence; anything else as it is."""
    return value[:, : sequence.shape[1]] if isinstance(value, torch.Tensor) else value


def test_the_cache_changes_nothing(model: SummaryLvlm) -> None:
    """A batch of pictures whose prompts have different lengths gives what a loop gives that
    computes all anew.
    """
    with torch.no_grad():
        inputs = model.first_pass_inputs(pictures())
        found = model.first_pass(inputs)
    assert found.logits is not None
    for number, image in enumerate(pictures()):
        tokens, states = naive(model, image)
        torch.testing.assert_close(found.tokens[number], tokens, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            found.hidden_states[number], states, atol=1e-3, rtol=1e-3
        )
    assert torch.pdist(found.tokens.flatten(1)).min() > 1e-3


def test_some_architectures_pad_the_pictures() -> None:
    """Else the test above would say nothing of padding."""
    masks = {
        each.__name__: model_of(each).first_pass_inputs(pictures())["attention_mask"]
        for each in ARCHITECTURES
    }
    assert {name for name, mask in masks.items() if (mask == 0).any()} >= {
        "llava_onevision",
        "qwen2_5_vl",
    }


def test_later_words_have_read_the_earlier_ones(model: SummaryLvlm) -> None:
    """The first word is that of a single forward pass, where the summary prompt's end writes it;
    the others differ.
    """
    plain = (
        production_model(each, replace(IN_TURN, readout="soft_words"))
        for each in ARCHITECTURES
    )
    at_once = next(each for each in plain if type(each.base) is type(model.base))
    with torch.no_grad():
        one, other = (
            each.first_pass(each.first_pass_inputs(pictures())).tokens
            for each in (model, at_once)
        )
    torch.testing.assert_close(one[:, 0], other[:, 0], atol=1e-4, rtol=1e-4)
    assert (one[:, 1:] - other[:, 1:]).abs().amax(-1).min() > 1e-4


class TestSummaryModelInTurn(SummaryModelSuite):
    tolerance = 1e-4

    @pytest.fixture(
        scope="class",
        params=ARCHITECTURES,
        ids=lambda architecture: architecture.__name__,
    )
    @classmethod
    def model(cls, request: pytest.FixtureRequest) -> SummaryModel:
        return LvlmSummaryModel(
            model_of(request.param),
            "0" * 32,
            batch_size=3,
            mode="soft words, one by one",
        )


class TestGeneratorOfTokensInTurn(GeneratorSuite):
    @pytest.fixture(
        scope="class",
        params=ARCHITECTURES,
        ids=lambda architecture: architecture.__name__,
    )
    @classmethod
    def made(cls, request: pytest.FixtureRequest) -> tuple[SummaryModel, Generator]:
        made = model_of(request.param)
        return LvlmSummaryModel(
            made, "0" * 32, batch_size=3, mode="soft words, one by one"
        ), LvlmGenerator(made)
