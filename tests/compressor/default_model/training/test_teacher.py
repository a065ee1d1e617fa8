"""The sentence encoder, as a BERT of a few random weights in the package's place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from compressor.default_model.training import retrieval
from compressor.errors import ModelFilesMissing

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "photo",
    "of",
    "dog",
    "cat",
    "runs",
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.manual_seed(1)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(tmp_path)
    monkeypatch.setattr(
        retrieval, "package_file", lambda _package, name: tmp_path / Path(name).name
    )
    return tmp_path


@pytest.mark.usefixtures("package")
def test_a_text_has_one_embedding_of_length_one_whatever_it_is_batched_with() -> None:
    texts = ["a dog", "a photo of a cat", "runs"]
    found = retrieval.teach(texts)
    assert found.shape == (3, 16)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(found[0], retrieval.teach(texts[:1])[0])
    assert not torch.allclose(found[0], found[2])


def test_without_the_package_it_is_told_what_to_install() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_TEACHER_PACKAGE", ("no_such_package", "config.json"))
        with pytest.raises(
            ModelFilesMissing, match="install the package no-such-package"
        ):
            retrieval.teach(["a dog"])
