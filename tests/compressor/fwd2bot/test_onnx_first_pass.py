"""The first pass on ONNX Runtime against PyTorch: states, tokens, embeddings, and its folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from compressor.errors import (
    EngineFailed,
    EngineRefused,
    ExportFailed,
    ModelFilesInvalid,
    ModelFilesMissing,
)
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.onnx_engine import canary
from compressor.fwd2bot.onnx_engine import export as export_module
from compressor.fwd2bot.onnx_engine.export import (
    export_first_pass,
    why_first_pass_not_exportable,
)
from compressor.fwd2bot.onnx_engine.first_pass import (
    OnnxFirstPass,
    OnnxFirstPassDecoder,
)
from compressor.fwd2bot.onnx_engine.folder import (
    CANARY,
    GRAPH,
    MANIFEST,
    WEIGHTS,
    FirstPassManifest,
    file_sums,
    read_manifest,
    write_manifest,
)
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from tests.compressor.production import production_model, qwen2_5_vl
from tests.conformance.summary_model_suite import pictures
from tests.conformance.tiny_lvlm import CONTEXT_TOKENS
from tests.conformance.tiny_onnx import (
    SOFT_WORDS,
    adapted_tiny_lvlm,
    exported_tiny_first_pass,
    exported_tiny_lvlm,
)

FINGERPRINT = "0" * 32
GOLDEN = Path(__file__).parents[2] / "golden"
# Sums in another order.
ROUNDING = 1e-5
TEXTS = ["what is in the image ?", "the", "", "a word1 word2 " * 20]


@pytest.fixture(scope="module")
def in_torch() -> LvlmSummaryModel:
    return exported_tiny_first_pass(*SOFT_WORDS)[0]


@pytest.fixture(scope="module")
def exported() -> Path:
    return exported_tiny_first_pass(*SOFT_WORDS)[1]


@pytest.fixture(scope="module")
def decoder(exported: Path) -> OnnxFirstPassDecoder:
    return OnnxFirstPassDecoder(exported, FINGERPRINT, threads=1)


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "copied"))


def near(ours: np.ndarray | torch.Tensor, theirs: np.ndarray | torch.Tensor) -> None:
    """Equal, rounding apart."""
    scale = float(np.abs(np.asarray(theirs)).max())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=ROUNDING * scale)


def test_hidden_states_are_those_of_torch_whatever_the_padding(
    in_torch: LvlmSummaryModel, decoder: OnnxFirstPassDecoder
) -> None:
    lengths = np.array([30, 11, 1])
    draw = torch.Generator().manual_seed(3)
    embeddings = torch.randn(3, 30, 256, generator=draw)
    mask = torch.from_numpy((np.arange(30) < lengths[:, None]).astype(np.int64))
    model = in_torch.model
    with torch.inference_mode(), model.adapters.use("first_pass"):
        expected = model.decoder_states(embeddings, mask)
    last, layers = decoder.states(embeddings.numpy(), lengths)
    assert layers.shape == (3, 30, 3 * 256)
    for row, length in enumerate(lengths):
        near(last[row, :length], expected.last[row, :length])
        near(layers[row, :length], expected.layers[row, :length])


@pytest.mark.parametrize("readout", ["soft_words", "hidden"])
@pytest.mark.parametrize("token_count", [1, 4, 7])
def test_summary_tokens_and_embeddings_are_those_of_torch(
    token_count: int, readout: str, exported: Path
) -> None:
    """The graph knows neither the readout nor K: one export serves all of them here."""
    changes = {**dict(SOFT_WORDS), "readout": readout, "token_count": token_count}
    in_torch, _ = adapted_tiny_lvlm(**changes)
    on_onnx = in_torch.on(OnnxFirstPass(in_torch.model, exported, FINGERPRINT))
    expected = in_torch.compress(pictures())
    got = on_onnx.compress(pictures())
    assert got.tokens.shape == (len(pictures()), token_count, 256)
    near(got.tokens, expected.tokens)
    near(got.embeddings, expected.embeddings)
    near(on_onnx.embed_text(TEXTS), in_torch.embed_text(TEXTS))
    for text in TEXTS[:2]:
        near(on_onnx.embed_text([text]), in_torch.embed_text([text]))


def test_prompts_of_different_lengths_share_a_batch(
    in_torch: LvlmSummaryModel, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = in_torch.model
    texts = [
        " <image> what ?",
        " <image> " + "why ? " * 20,
        " <image> a word3 word4 word5",
    ]
    on_onnx = OnnxFirstPass(model, exported, FINGERPRINT)

    def summary_inputs(self: SummaryLvlm, images: list[Image.Image], _: object) -> dict:
        return self.prompts.processed([[image] for image in images], texts)

    monkeypatch.setattr(SummaryLvlm, "_summary_inputs", summary_inputs)
    with torch.inference_mode():
        inputs = model.first_pass_inputs(pictures()[:3])
        expected = model.first_pass(inputs)
        got = on_onnx.first_pass(inputs)
    assert len(set(inputs["attention_mask"].sum(1).tolist())) == 3
    near(got.tokens, expected.tokens)
    near(got.hidden_states, expected.hidden_states)
    near(got.logits, expected.logits)


def test_merged_adapters_are_exported_as_the_first_pass_runs_them(
    exported: Path,
) -> None:
    """A service has merged its adapters before it exports; what it then writes is this canary."""
    merged, _ = adapted_tiny_lvlm(**dict(SOFT_WORDS))
    merged.model.merge_adapters()
    on_onnx = merged.on(OnnxFirstPass(merged.model, exported, FINGERPRINT))
    near(on_onnx.compress(pictures()).tokens, merged.compress(pictures()).tokens)


def test_a_prompt_over_the_context_is_an_error(decoder: OnnxFirstPassDecoder) -> None:
    tokens = CONTEXT_TOKENS + 1
    with pytest.raises(EngineFailed):
        decoder.states(np.zeros((1, tokens, 256), np.float32), np.array([tokens]))


# The folder


def test_a_second_export_finds_the_first(
    in_torch: LvlmSummaryModel, exported: Path
) -> None:
    assert export_first_pass(in_torch.model, FINGERPRINT, exported.parent) == exported
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]


def test_the_graph_has_neither_embedding_matrix_nor_cache(exported: Path) -> None:
    """The embedding matrix is in memory once, where both passes read it."""
    model = exported_tiny_first_pass(*SOFT_WORDS)[0].model
    weights = 0
    for name, parameter in model.decoder.named_parameters():
        if "lora" not in name and "embed_tokens" not in name:
            weights += parameter.numel()
    assert (exported / WEIGHTS).stat().st_size < 4 * weights * 1.05
    assert "present." not in (exported / GRAPH).read_bytes().decode("latin-1")


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, CANARY])
def test_a_damaged_cut_or_missing_file_is_found(name: str, copied: Path) -> None:
    whole = (copied / name).read_bytes()
    changed = bytearray(whole)
    changed[len(changed) // 2] ^= 1
    for content in (bytes(changed), whole[:-1]):
        (copied / name).write_bytes(content)
        with pytest.raises(ModelFilesInvalid, match=name):
            OnnxFirstPassDecoder(copied, FINGERPRINT, threads=1)
    (copied / name).unlink()
    with pytest.raises(ModelFilesInvalid, match=name):
        OnnxFirstPassDecoder(copied, FINGERPRINT, threads=1)


def test_a_folder_of_another_version_model_or_pass_is_refused(copied: Path) -> None:
    with pytest.raises(ModelFilesInvalid, match="belongs to the model"):
        OnnxFirstPassDecoder(copied, "1" * 32, threads=1)
    with pytest.raises(ModelFilesInvalid, match=MANIFEST):
        OnnxFirstPassDecoder(exported_tiny_lvlm()[2], FINGERPRINT, threads=1)
    manifest = json.loads((copied / MANIFEST).read_text())
    for changes in ({"format_version": 2}, {"more": 1}, {"files": {}}, {"layers": "2"}):
        (copied / MANIFEST).write_text(json.dumps(manifest | changes))
        with pytest.raises(ModelFilesInvalid, match=MANIFEST):
            OnnxFirstPassDecoder(copied, FINGERPRINT, threads=1)
    (copied / MANIFEST).unlink()
    with pytest.raises(ModelFilesMissing):
        OnnxFirstPassDecoder(copied, FINGERPRINT, threads=1)


def test_a_folder_with_states_of_other_layers_is_refused(exported: Path) -> None:
    other, _ = adapted_tiny_lvlm(embedding_layers=(-1,))
    with pytest.raises(ModelFilesInvalid, match="retrieval head"):
        OnnxFirstPass(other.model, exported, FINGERPRINT)


def rewrite_canary(folder: Path, name: str, value: float) -> None:
    """Moves one number of the canary; the checksums agree."""
    arrays = load_file(folder / CANARY)
    arrays[name].flat[5] += value * arrays[name].std()
    save_file(arrays, folder / CANARY)
    text = (folder / MANIFEST).read_text()
    manifest = FirstPassManifest.model_validate_json(text)
    changed = manifest.model_copy(update={"files": file_sums(folder)})
    write_manifest(folder, changed)


@pytest.mark.parametrize("name", ["last", "layers"])
def test_a_cpu_that_computes_otherwise_is_refused(name: str, copied: Path) -> None:
    """Here the stored states are moved instead."""
    rewrite_canary(copied, name, 1e-5)
    OnnxFirstPassDecoder(copied, FINGERPRINT, threads=1)
    for share in (0.01, np.nan):
        rewrite_canary(copied, name, share)
        with pytest.raises(EngineRefused, match="standard deviations"):
            OnnxFirstPassDecoder(copied, FINGERPRINT, threads=1)


def test_a_canary_of_the_second_pass_is_none(copied: Path) -> None:
    shutil.copy(exported_tiny_lvlm()[2] / CANARY, copied / CANARY)
    with pytest.raises(ModelFilesInvalid, match="no canary"):
        canary.FirstPassCanary.load(copied / CANARY)


def test_the_manifest_is_written_as_the_golden_file_and_read_again(
    tmp_path: Path,
) -> None:
    """docs/storage.md describes it."""
    for name, content in zip((GRAPH, WEIGHTS, CANARY), b"abc", strict=True):
        (tmp_path / name).write_bytes(bytes([content]))
    manifest = FirstPassManifest(
        fingerprint=FINGERPRINT,
        hidden_size=576,
        layers=30,
        embedding_layers=(0, 20, 30),
        context_tokens=8192,
        made_with={"onnxruntime": "1.32.0", "onnxruntime-genai": "0.18.0"},
        files=file_sums(tmp_path),
    )
    write_manifest(tmp_path, manifest)
    written = (tmp_path / MANIFEST).read_bytes()
    assert written == (GOLDEN / "first-pass-v1.json").read_bytes()
    assert read_manifest(tmp_path, FINGERPRINT, FirstPassManifest) == manifest


def test_a_failed_export_leaves_nothing(
    in_torch: LvlmSummaryModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The builder stops, as it does without the package.
    monkeypatch.setattr(export_module, "_BUILDER", "onnxruntime_genai.no_such_module")
    with pytest.raises(ExportFailed, match="no_such_module"):
        export_first_pass(in_torch.model, FINGERPRINT, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_first_passes_without_an_export_say_so(tmp_path: Path) -> None:
    other = production_model(qwen2_5_vl)
    in_turn = adapted_tiny_lvlm(readout="soft_words_in_turn")[0].model
    for model, reason in ((other, "qwen2_5_vl"), (in_turn, "one by one")):
        assert reason in str(why_first_pass_not_exportable(model))
        with pytest.raises(ExportFailed, match=reason):
            export_first_pass(model, FINGERPRINT, tmp_path)
