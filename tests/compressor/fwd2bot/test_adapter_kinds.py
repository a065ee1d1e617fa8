"""One adapter for both passes, and none: what is trained, in use, on disk and served."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compressor.errors import ModelFilesInvalid
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.adapter_folder import base_name
from compressor.fwd2bot.config import AdapterKind, SummaryConfig
from compressor.fwd2bot.load import assemble, load_lvlm
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.config import TrainConfig
from compressor.training.trainer import build_optimizer
from tests.compressor.tiny import trained
from tests.compressor.training.samples import sample, stepped, tiny_lvlm
from tests.compressor.training.test_cli import researchers_folder
from tests.conformance.summary_model_suite import pictures

BATCH = [sample(number) for number in range(3)]
RECIPE = TrainConfig(contrastive_weight=1.0, workers=0)


def tokens(model: SummaryLvlm) -> torch.Tensor:
    with torch.no_grad():
        return model.first_pass(model.first_pass_inputs(pictures())).tokens


def adapter_parameters(model: SummaryLvlm) -> dict[str, torch.nn.Parameter]:
    return {name: value for name, value in model.trained_parameters() if "lora" in name}


def test_a_shared_adapter_is_in_use_in_both_passes_and_gets_both_gradients() -> None:
    model = trained(tiny_lvlm(adapters="shared"))
    parameters = adapter_parameters(model)
    assert parameters
    assert all(".shared." in name for name in parameters)
    for name in ("first_pass", "second_pass"):
        with model.adapters.use(name):
            assert model.adapters.active == "shared"

    gradients = {}
    for loss in ("autoregressive", "contrastive"):
        model.zero_grad()
        getattr(stepped(model, BATCH, RECIPE), loss).backward()
        gradients[loss] = [value.grad.clone() for value in parameters.values()]
    model.zero_grad()
    stepped(model, BATCH, RECIPE).total(RECIPE).backward()
    for place, value in enumerate(parameters.values()):
        both = gradients["autoregressive"][place] + gradients["contrastive"][place]
        torch.testing.assert_close(value.grad, both, atol=1e-5, rtol=1e-4)


def test_the_optimiser_gives_a_shared_adapter_the_second_passes_rate() -> None:
    config = replace(RECIPE, first_pass_lr=1e-5, second_pass_lr=2e-5, head_lr=3e-5)
    rates = {
        group["part"]: group["lr"]
        for group in build_optimizer(tiny_lvlm(adapters="shared"), config).param_groups
    }
    assert rates == {"shared": 2e-5, "head": 3e-5}


def test_without_adapters_summary_tokens_and_head_alone_are_trained() -> None:
    model = tiny_lvlm(adapters="none")
    assert adapter_parameters(model) == {}
    with model.adapters.use("first_pass"):
        assert model.adapters.active is None
    stepped(model, BATCH, RECIPE).total(RECIPE).backward()
    assert model.embedding.summary.grad.abs().sum() > 0
    assert model.head.image.weight.grad.abs().sum() > 0


def test_recomputed_activations_run_under_the_shared_adapter() -> None:
    model = trained(tiny_lvlm(adapters="shared"))

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        stepped(model, BATCH, RECIPE).total(RECIPE).backward()
        return [value.grad.clone() for value in adapter_parameters(model).values()]

    kept = gradients()
    model.adapters.checkpoint_activations(model.base)
    for again, before in zip(gradients(), kept, strict=True):
        torch.testing.assert_close(again, before, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "folders"), [("shared", ["shared"]), ("none", [])], ids=str
)
def test_a_folder_holds_the_adapters_that_there_are(
    kind: str, folders: list[str], tmp_path: Path
) -> None:
    model = trained(tiny_lvlm(adapters=kind))
    adapter_folder.save(model, tmp_path)
    adapter_folder.record(tmp_path, model.config, {**vars(RECIPE)})
    adapter_folder.check(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == folders
    assert json.loads((tmp_path / "summary.json").read_text())["adapters"] == kind
    card = (tmp_path / "README.md").read_text()
    assert {"shared": "One adapter of", "none": "No adapters,"}[kind] in card
    if folders:
        stored = load_file(tmp_path / "shared" / "adapter_model.safetensors")
        assert len(stored) == len(adapter_parameters(model))
    again = tiny_lvlm(adapters=kind)
    adapter_folder.load(again, tmp_path)
    torch.testing.assert_close(tokens(again), tokens(model), atol=1e-3, rtol=1e-3)
    with pytest.raises(ModelFilesInvalid, match="other settings"):
        adapter_folder.load(tiny_lvlm(), tmp_path)


@pytest.mark.parametrize("kind", list(AdapterKind))
def test_each_kind_can_be_loaded_for_serving(kind: AdapterKind, tmp_path: Path) -> None:
    folder = researchers_folder(tmp_path) / "model"
    config = SummaryConfig(base_name(folder), token_count=3, adapters=kind)
    model = trained(assemble(folder, config, training=True))
    adapter_folder.save(model, tmp_path / "trained")
    served = load_lvlm(folder, tmp_path / "trained")
    torch.testing.assert_close(tokens(served), tokens(model), atol=1e-3, rtol=1e-3)
