"""Trained heads and word lists keep the names of released weights on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from compressor.default_model import build
from compressor.default_model.build import Part
from compressor.default_model.llava import WordLlavaForConditionalGeneration, word_llava
from compressor.default_model.vocabulary import Words
from compressor.errors import ModelFilesInvalid, ModelFilesMissing
from tests.compressor.tiny import WORDS, tiny_model

STORED = {"things", "colours", "counts", "objects", "captions", "sense"}


@pytest.fixture
def base() -> WordLlavaForConditionalGeneration:
    return word_llava(tiny_model().base)


def test_heads_are_stored_under_the_released_names_and_read_back(
    base: WordLlavaForConditionalGeneration, tmp_path: Path
) -> None:
    build.save_heads(base, tmp_path)
    stored = load_file(tmp_path / "heads.safetensors")
    assert {name.split(".")[0] for name in stored} == STORED
    fresh = word_llava(tiny_model().base)
    with torch.no_grad():
        fresh.projector.object_names.weight.zero_()
        fresh.projector.caption_embedding.bias.fill_(7)
    build.load_heads(fresh, tmp_path)
    loaded = fresh.projector.state_dict()
    for name, value in base.projector.state_dict().items():
        # Large matrices are stored in float16.
        torch.testing.assert_close(
            loaded[name],
            value,
            atol=1e-3,
            rtol=1e-3,
        )


def test_the_shipped_heads_have_the_released_names() -> None:
    stored = load_file(build.WEIGHTS / "heads.safetensors")
    assert {name.split(".")[0] for name in stored} == STORED


def test_unknown_parts_and_a_missing_file_are_refused(
    base: WordLlavaForConditionalGeneration, tmp_path: Path
) -> None:
    with pytest.raises(ModelFilesMissing, match=r"no heads\.safetensors"):
        build.load_heads(base, tmp_path)
    save_file({"wings.weight": torch.zeros(2)}, tmp_path / "heads.safetensors")
    with pytest.raises(ModelFilesInvalid, match=r"unknown parts .*wings"):
        build.load_heads(base, tmp_path)


def test_words_are_stored_under_the_released_names_and_read_back(
    tmp_path: Path,
) -> None:
    WORDS.save(tmp_path)
    stored = json.loads((tmp_path / "words.json").read_text())
    assert set(stored) == {"classes", "things", "colours", "counts", "captions"}
    assert Words.load(tmp_path) == WORDS


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"classes": []}'])
def test_broken_word_lists_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "words.json").write_text(content)
    with pytest.raises(ModelFilesInvalid, match="not the word lists"):
        Words.load(tmp_path)


def test_an_unknown_word_list_is_refused(tmp_path: Path) -> None:
    WORDS.save(tmp_path)
    stored = json.loads((tmp_path / "words.json").read_text())
    (tmp_path / "words.json").write_text(json.dumps({**stored, "wings": []}))
    with pytest.raises(ModelFilesInvalid, match="unknown word lists wings"):
        Words.load(tmp_path)


def test_parts_are_numbered_as_the_embedding_has_them() -> None:
    parts = build.SUMMARY.embedding_parts
    assert len(parts) == len(Part)
    assert parts[Part.SENTENCES.number].positions == (7,)
    assert parts[Part.NAMES.number].positions == (0, 1, 2, 3)
