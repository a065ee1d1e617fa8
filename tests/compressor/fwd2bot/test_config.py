"""Settings of a summary model: nonsense is refused, new fields leave old files valid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from compressor.default_model.build import WEIGHTS
from compressor.errors import ModelFilesInvalid
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import Pooling, ReadoutKind, SummaryConfig
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.retrieval_head import RetrievalHead
from tests.compressor.production import ARCHITECTURES, SUMMARY, production_model
from tests.compressor.tiny import trained
from tests.conformance.summary_model_suite import pictures

STORED = {
    "base_model": "llava@0123456789abcdef",
    "token_count": 16,
    "summary_prompt": "Summarize the image in a few words.",
    "readout": "hidden",
    "temperature": 0.5,
    "embedding_size": 256,
    "embedding_layers": [-1],
    "pooling": "learned",
    "lora_rank": 16,
    "lora_alpha": 16,
    "target_modules": ["all-linear"],
    "adapters": "stage_specific",
    "forward": "double",
    "budgets": [8, 16],
    "format_version": 2,
}


def test_a_file_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(STORED))
    config = SummaryConfig.load(tmp_path)
    assert config.pooling == Pooling.LEARNED
    assert config.budgets == (8, 16)
    assert list(json.loads(json.dumps(config.values())).items()) == list(STORED.items())


def test_a_file_of_an_earlier_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(STORED | {"format_version": 1}))
    with pytest.raises(ModelFilesInvalid, match="format version 2"):
        SummaryConfig.load(tmp_path)


def test_the_shipped_file_is_what_saving_writes(tmp_path: Path) -> None:
    SummaryConfig.load(WEIGHTS).save(tmp_path)
    assert (tmp_path / "summary.json").read_bytes() == (
        WEIGHTS / "summary.json"
    ).read_bytes()


def test_new_fields_come_back(tmp_path: Path) -> None:
    config = SummaryConfig(
        "x", pooling=Pooling.LAST, target_modules=("q_proj", "v_proj")
    )
    config.save(tmp_path)
    assert SummaryConfig.load(tmp_path) == config
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored["pooling"] == "last"
    assert stored["target_modules"] == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "median"}, "pooling must be one of mean, last, learned"),
        ({"readout": "words"}, "readout must be one of hidden"),
        ({"adapters": "three"}, "adapters must be one of stage_specific, shared, none"),
        ({"token_count": 0}, "token_count must be a whole number from 1 on, not 0"),
        ({"token_count": True}, "token_count"),
        ({"embedding_size": 1.5}, "embedding_size"),
        ({"lora_rank": -1}, "lora_rank"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"embedding_layers": []}, "embedding_layers must be numbers of layers"),
        ({"embedding_layers": 3}, "embedding_layers"),
        ({"embedding_layers": ["last"]}, "embedding_layers"),
        ({"target_modules": []}, "target_modules must be names"),
        ({"target_modules": "q_proj"}, "target_modules"),
        ({"target_modules": [""]}, "target_modules"),
        ({"temperature": 0}, "temperature"),
        ({"summary_prompt": None}, "summary_prompt must be text"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SummaryConfig(**({"base_model": "x"} | change))
    (tmp_path / "summary.json").write_text(json.dumps(STORED | change))
    with pytest.raises(ModelFilesInvalid, match=message) as raised:
        SummaryConfig.load(tmp_path)
    assert "summary.json" in str(raised.value)


def test_each_pooling_reads_its_positions() -> None:
    states = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    heads = {}
    for pooling in Pooling:
        torch.manual_seed(1)
        heads[pooling] = RetrievalHead(8, 4, 3, pooling)
    tokens = torch.zeros(2, 3, 8)
    mean, last, learned = (heads[each].embed_image(states, tokens) for each in Pooling)
    torch.testing.assert_close(mean, learned)  # at the start
    torch.testing.assert_close(
        last, heads[Pooling.MEAN].embed_image(states[:, -1:].expand(2, 3, 8), tokens)
    )
    assert not torch.allclose(mean, last, atol=0.1)
    weights = {name for name, _ in heads[Pooling.LEARNED].named_parameters()}
    assert "position_weights" in weights
    for pooling in (Pooling.MEAN, Pooling.LAST):
        assert {name for name, _ in heads[pooling].named_parameters()} == weights - {
            "position_weights"
        }


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.LAST])
def test_other_settings_are_stored_with_the_adapters(
    tmp_path: Path, pooling: Pooling
) -> None:
    config = replace(
        SUMMARY,
        pooling=pooling,
        embedding_size=8,
        embedding_layers=(1, -1),
        lora_rank=2,
        lora_alpha=8,
        target_modules=("q_proj", "mlp.down_proj"),
        summary_prompt="In short?",
        readout=ReadoutKind.SOFT_WORDS,
        token_count=3,
    )
    made = trained(production_model(ARCHITECTURES[0], config))
    adapter_folder.save(made, tmp_path)
    again = production_model(ARCHITECTURES[0], SummaryConfig.load(tmp_path))
    adapter_folder.load(again, tmp_path)
    adapter_folder.check(tmp_path)
    embeddings = []
    for model in (made, again):
        with torch.no_grad():
            first = model.first_pass(model.first_pass_inputs(pictures()[:2]))
            embeddings.append(model.head.embed_image(first.hidden_states, first.tokens))
    torch.testing.assert_close(
        *embeddings, atol=1e-2, rtol=1e-2
    )  # adapters are kept in float16
    assert embeddings[0].shape == (2, 8)
    assert adapted(made) == {"self_attn.q_proj", "mlp.down_proj"}


def adapted(model: SummaryLvlm) -> set[str]:
    """The ends of the names of layers that have adapters."""
    layers = [
        name
        for name, module in model.base.named_modules()
        if isinstance(module, LoraLayer)
    ]
    assert layers
    assert all("language_model" in name for name in layers)
    return {".".join(name.split(".")[-2:]) for name in layers}


def test_a_target_that_the_model_lacks_is_refused() -> None:
    config = replace(SUMMARY, target_modules=("q_proj", "gate"))
    with pytest.raises(
        ModelFilesInvalid, match="no linear layer gate; there are down_proj, gate_"
    ):
        production_model(ARCHITECTURES[0], config)
