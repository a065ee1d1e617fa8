"""The second pass saved as an ordinary language model, against the second pass in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from compressor.errors import ExportFailed
from compressor.fwd2bot.answer_writer import AnswerWriter
from compressor.fwd2bot.causal_lm import save_causal_lm
from compressor.fwd2bot.generator import LvlmGenerator, checked_prompt, whole_answers
from compressor.fwd2bot.model import SummaryLvlm
from compressor.ports import GenerationLimits, GenerationRequest, Turn
from tests.compressor.production import (
    llava,
    llava_onevision,
    production_model,
    qwen2_5_vl,
)
from tests.compressor.tiny import tiny_model, trained

FINGERPRINT = "0123456789abcdef" * 2
QUESTIONS = ("What is in the image?", "Is there a red ball?", "How many dogs?")
LIMIT = GenerationLimits(max_tokens=12)


def merged() -> SummaryLvlm:
    """A model as a service has it."""
    model = trained(tiny_model())
    model.merge_adapters()
    return model


MODELS: dict[str, Callable[[], SummaryLvlm]] = {
    "default": lambda: trained(tiny_model()),
    "default, merged": merged,
    "llava": lambda: trained(production_model(llava)),
    "llava_onevision": lambda: trained(production_model(llava_onevision)),
}


def requests(model: SummaryLvlm) -> list[GenerationRequest]:
    """Questions about made-up summary tokens, which lie where words do."""
    draw = torch.Generator().manual_seed(3)
    scale = float(model.embedding.weight.detach().std())
    shape = (model.config.token_count, model.hidden_size)
    made = []
    for question in QUESTIONS:
        tokens = torch.randn(shape, generator=draw) * scale
        made.append(GenerationRequest([tokens.numpy()], [Turn("user", question)]))
    return made


@pytest.mark.parametrize("name", MODELS)
def test_it_answers_as_the_second_pass_does(name: str, tmp_path: Path) -> None:
    model = MODELS[name]().requires_grad_(False)
    save_causal_lm(model, FINGERPRINT, tmp_path / "lm")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "lm")
    asked = requests(model)
    expected = whole_answers(LvlmGenerator(model), asked, [LIMIT] * len(asked))
    answers = []
    for request in asked:
        prompt = checked_prompt(model, [request], [LIMIT])
        tokens = plain.generate(
            inputs_embeds=prompt.inputs_embeds,
            attention_mask=prompt.attention_mask,
            max_new_tokens=LIMIT.max_tokens,
            do_sample=False,
            pad_token_id=model.end_ids[0],
        )
        # The same text of the same tokens; an answer may be cut off within a character.
        writer = AnswerWriter(
            tokenizer.backend_tokenizer, frozenset(model.end_ids), 0, LIMIT
        )
        texts = (writer.write(token, 0.0) for token in tokens[0].tolist())
        answers.append("".join(texts))
    assert answers == expected
    assert len(set(answers)) > 1


def test_the_adapter_of_the_second_pass_is_in_the_weights(tmp_path: Path) -> None:
    for name, model in (("with", trained(tiny_model())), ("without", tiny_model())):
        save_causal_lm(model, FINGERPRINT, tmp_path / name)
    weights = [
        AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict()
        for name in ("with", "without")
    ]
    key = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(weights[0][key], weights[1][key])


def test_fingerprint_template_and_end_tokens_are_in_the_folder(tmp_path: Path) -> None:
    model = trained(tiny_model())
    save_causal_lm(model, FINGERPRINT, tmp_path / "lm")
    config = AutoConfig.from_pretrained(tmp_path / "lm")
    assert config.precis_fingerprint == FINGERPRINT
    assert config.architectures == ["LlamaForCausalLM"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "lm")
    assert tokenizer.chat_template == model.processor.chat_template
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    assert plain.generation_config.eos_token_id == list(model.end_ids)
    names = {path.suffix for path in (tmp_path / "lm").iterdir()}
    assert ".safetensors" in names
    assert not names & {".bin", ".py"}


def test_transformers_shows_no_progress_beside_the_commands_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_causal_lm(tiny_model(), FINGERPRINT, tmp_path / "lm")
    assert capfd.readouterr().err == ""


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    model = production_model(qwen2_5_vl)
    with pytest.raises(ExportFailed, match="qwen2_5_vl"):
        save_causal_lm(model, FINGERPRINT, tmp_path / "lm")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="exists already"):
        save_causal_lm(tiny_model(), FINGERPRINT, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ExportFailed, match="cannot be written"):
        save_causal_lm(tiny_model(), FINGERPRINT, tmp_path / "file" / "lm")
