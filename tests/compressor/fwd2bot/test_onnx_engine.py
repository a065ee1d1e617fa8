"""The second pass on ONNX Runtime against PyTorch: the export, its folder, the running batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from compressor.errors import (
    EngineRefused,
    ExportFailed,
    ModelFilesInvalid,
    ModelFilesMissing,
)
from compressor.fwd2bot.adapters import merged_weight
from compressor.fwd2bot.config import AdapterKind
from compressor.fwd2bot.generator import LvlmGenerator, whole_answers
from compressor.fwd2bot.onnx_engine import export as export_module
from compressor.fwd2bot.onnx_engine.batch import ContinuousBatch, Sequence
from compressor.fwd2bot.onnx_engine.decoder import KeyValueRows, OnnxDecoder
from compressor.fwd2bot.onnx_engine.export import (
    export,
    why_not_exportable,
)
from compressor.fwd2bot.onnx_engine.file_sums import file_sums
from compressor.fwd2bot.onnx_engine.folder import (
    CANARY,
    GRAPH,
    MANIFEST,
    WEIGHTS,
    DecoderShape,
    Precision,
    SecondPassManifest,
    read_manifest,
    write_manifest,
)
from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator
from compressor.fwd2bot.onnx_engine.prompt_embedder import PromptEmbedder
from compressor.ports import GenerationLimits, GenerationRequest, Turn
from tests.compressor.production import production_model, qwen2_5_vl
from tests.compressor.tiny import tiny_model, trained
from tests.conformance.summary_model_suite import pictures
from tests.conformance.tiny_onnx import exported_tiny_lvlm

FINGERPRINT = "0" * 32
GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def exported() -> Path:
    return exported_tiny_lvlm()[2]


@pytest.fixture(scope="module")
def in_torch() -> LvlmGenerator:
    return exported_tiny_lvlm()[1]


@pytest.fixture(scope="module")
def decoder(exported: Path) -> OnnxDecoder:
    return OnnxDecoder(exported, FINGERPRINT, threads=1)


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "copied"))


@pytest.fixture(scope="module")
def requests() -> list[GenerationRequest]:
    """Of different lengths, about one image and about two."""
    tokens = list(exported_tiny_lvlm()[0].compress(pictures()[:4]).tokens)
    return [
        GenerationRequest(tokens[:1], [Turn("user", "what is in the image ?")]),
        GenerationRequest(tokens[1:3], [Turn("user", "why ? " * 30)]),
        GenerationRequest(tokens[3:], [Turn("user", "what ?")]),
    ]


def test_greedy_answers_and_probabilities_are_those_of_torch(
    exported: Path, in_torch: LvlmGenerator, requests: list[GenerationRequest]
) -> None:
    on_onnx = OnnxGenerator(PromptEmbedder.of(in_torch.model), exported, FINGERPRINT)
    limits = [GenerationLimits(24)] * len(requests)
    expected = list(in_torch.generate(requests, limits))
    got = list(on_onnx.generate(requests, limits))
    for number in range(len(requests)):
        theirs = [piece for piece in expected if piece.request == number]
        ours = [piece for piece in got if piece.request == number]
        assert text_of(ours) == text_of(theirs) != ""
        last, their_last = ours[-1], theirs[-1]
        assert last.finish_reason == their_last.finish_reason
        assert last.completion_tokens == their_last.completion_tokens
        assert last.prompt_tokens == their_last.prompt_tokens
        assert last.mean_probability == pytest.approx(
            their_last.mean_probability, rel=1e-3
        )


def text_of(pieces: list) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("part", [1, 3, 64])
def test_prompts_read_in_parts_give_the_same_answers(
    part: int,
    exported: Path,
    in_torch: LvlmGenerator,
    requests: list[GenerationRequest],
) -> None:
    on_onnx = OnnxGenerator(
        PromptEmbedder.of(in_torch.model), exported, FINGERPRINT, prefill_tokens=part
    )
    limits = [GenerationLimits(12)] * len(requests)
    assert whole_answers(on_onnx, requests, limits) == whole_answers(
        in_torch, requests, limits
    )


def test_the_caller_gets_a_piece_after_each_part_of_a_prompt(
    exported: Path, in_torch: LvlmGenerator, requests: list[GenerationRequest]
) -> None:
    """So that it may close the iterator: no part of a long prompt is read after that."""
    on_onnx = OnnxGenerator(
        PromptEmbedder.of(in_torch.model), exported, FINGERPRINT, prefill_tokens=4
    )
    pieces = on_onnx.generate(requests[1:2], [GenerationLimits(4)])
    first = next(pieces)
    assert (first.text, first.completion_tokens) == ("", 0)
    (sequence,) = on_onnx._answers
    assert sequence.length == 4
    pieces.close()
    assert not on_onnx._answers
    assert not on_onnx._batch._rows
    assert sequence.length == 4


# The running batch


def plain_embeddings(decoder: OnnxDecoder, tokens: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    size = decoder.shape.hidden_size
    return draw.normal(size=(tokens, size)).astype(np.float32)


def embed_with(decoder: OnnxDecoder) -> Callable[[np.ndarray], np.ndarray]:
    table = plain_embeddings(decoder, decoder.shape.vocabulary, seed=99)
    return lambda tokens: table[tokens]


def alone(decoder: OnnxDecoder, sequence: Sequence, count: int) -> list[int]:
    """The first tokens of a prompt that is the only one."""
    batch = ContinuousBatch(decoder, embed_with(decoder))
    copy = Sequence(sequence.prompt, sequence.max_tokens)
    batch.add(copy)
    while len(copy.tokens) < count:
        batch.step()
    return copy.tokens[:count]


def test_sequences_that_come_and_go_get_what_they_get_alone(
    decoder: OnnxDecoder,
) -> None:
    """Any order of joining and leaving, with prompts of any length: rows are never mixed up."""
    draw = np.random.default_rng(5)
    batch = ContinuousBatch(decoder, embed_with(decoder), prefill_tokens=8)
    present: list[Sequence] = []
    left: list[Sequence] = []
    for number in range(60):
        if draw.random() < 0.4 and len(present) < 6:
            prompt = plain_embeddings(decoder, int(draw.integers(1, 40)), number)
            present.append(Sequence(prompt, max_tokens=80))
            batch.add(present[-1])
        if draw.random() < 0.2 and present:
            leaver = present.pop(int(draw.integers(len(present))))
            batch.remove(leaver)
            left.append(leaver)
        batch.step()
    written = [each for each in present + left if each.tokens]
    assert len(written) > 5
    assert any(each.tokens for each in left)
    for sequence in written:
        assert sequence.tokens == alone(decoder, sequence, len(sequence.tokens))


def test_a_long_prompt_keeps_neither_a_short_one_nor_a_running_answer_waiting(
    decoder: OnnxDecoder,
) -> None:
    batch = ContinuousBatch(decoder, embed_with(decoder), prefill_tokens=8)
    running = Sequence(plain_embeddings(decoder, 4, 0), 100)
    batch.add(running)
    batch.step()
    long = Sequence(plain_embeddings(decoder, 120, 1), 20)
    short = Sequence(plain_embeddings(decoder, 6, 2), 20)
    batch.add(long)
    batch.add(short)
    written = len(running.tokens)
    batch.step()
    batch.step()
    assert len(short.tokens) == 1
    assert long.length == 8
    assert len(running.tokens) == written + 2


def test_a_second_question_reads_only_what_is_new(decoder: OnnxDecoder) -> None:
    batch = ContinuousBatch(decoder, embed_with(decoder), prefill_tokens=100)
    image = plain_embeddings(decoder, 30, 7)
    questions = [plain_embeddings(decoder, 5, seed) for seed in (8, 9)]
    first, second = (
        Sequence(np.concatenate([image, question]), 20) for question in questions
    )
    batch.add(first)
    batch.step()
    batch.add(second)
    assert second.length == 30
    while len(second.tokens) < 8:
        batch.step()
    without = ContinuousBatch(decoder, embed_with(decoder), prefix_bytes=0)
    for sequence in (first, second):
        plain = Sequence(sequence.prompt, 20)
        without.add(plain)
        assert plain.length == 0
        while len(plain.tokens) < 8:
            without.step()
        assert sequence.tokens[:8] == plain.tokens[:8]


def test_the_cache_keeps_its_rows_when_it_grows(decoder: OnnxDecoder) -> None:
    cache = KeyValueRows(decoder.shape)
    cache.reserve(1, 10)
    logits = decoder.step(plain_embeddings(decoder, 10, 3)[None], [0], cache)
    before = [array[0, :, :10].copy() for array in cache.arrays]
    cache.reserve(5, decoder.shape.context_tokens, used=10)
    assert cache.rows >= 5
    assert cache.capacity == decoder.shape.context_tokens
    for array, old in zip(cache.arrays, before, strict=True):
        np.testing.assert_array_equal(array[0, :, :10], old)
    assert np.isfinite(logits).all()


def test_no_more_of_two_rows_is_exchanged_than_they_use(decoder: OnnxDecoder) -> None:
    cache = KeyValueRows(decoder.shape)
    cache.reserve(3, 10)
    for array in cache.arrays:
        array[:] = np.arange(cache.rows)[:, None, None, None]
    cache.swap(0, 2, used=4)
    for array in cache.arrays:
        assert (
            array[[0, 1, 2], :, :4] == np.array([2, 1, 0])[:, None, None, None]
        ).all()
        assert (
            array[[0, 1, 2], :, 4:] == np.array([0, 1, 2])[:, None, None, None]
        ).all()


def test_a_crowd_leaves_no_memory_behind(decoder: OnnxDecoder) -> None:
    """Room for one short answer stays, that of many long ones does not."""
    batch = ContinuousBatch(decoder, embed_with(decoder))

    def room_after(sequences: int, max_tokens: int) -> int:
        crowd = [
            Sequence(plain_embeddings(decoder, 5, number), max_tokens)
            for number in range(sequences)
        ]
        for sequence in crowd:
            batch.add(sequence)
        batch.step()
        for sequence in crowd:
            batch.remove(sequence)
        return batch._cache.rows * batch._cache.capacity

    assert room_after(1, 20) > 0
    assert room_after(64, decoder.shape.context_tokens - 5) == 0
    assert room_after(1, 20) > 0


# The folder


def test_a_second_export_finds_the_first(exported: Path) -> None:
    model = exported_tiny_lvlm()[1].model
    assert export(model, FINGERPRINT, exported.parent) == exported
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]


def test_an_export_that_is_damaged_is_written_anew(
    exported: Path, copied: Path
) -> None:
    model = exported_tiny_lvlm()[1].model
    parent = copied.parent
    damaged = parent / exported.name
    copied.rename(damaged)
    (damaged / WEIGHTS).write_bytes(b"")
    assert export(model, FINGERPRINT, parent) == damaged
    assert [path.name for path in parent.iterdir()] == [damaged.name]
    OnnxDecoder(damaged, FINGERPRINT, threads=1)


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, CANARY])
def test_a_damaged_file_is_found(name: str, copied: Path) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(ModelFilesInvalid, match=name):
        OnnxDecoder(copied, FINGERPRINT, threads=1)


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, CANARY])
def test_a_missing_or_cut_file_is_found(name: str, copied: Path) -> None:
    data = (copied / name).read_bytes()
    (copied / name).write_bytes(data[:-1])
    with pytest.raises(ModelFilesInvalid, match=name):
        OnnxDecoder(copied, FINGERPRINT, threads=1)
    (copied / name).unlink()
    with pytest.raises(ModelFilesInvalid, match=name):
        OnnxDecoder(copied, FINGERPRINT, threads=1)


def test_a_folder_of_another_version_or_model_is_refused(copied: Path) -> None:
    with pytest.raises(ModelFilesInvalid, match="belongs to the model"):
        OnnxDecoder(copied, "1" * 32, threads=1)
    manifest = json.loads((copied / MANIFEST).read_text())
    for changes in ({"format_version": 1}, {"more": 1}, {"files": {}}, {"shape": {}}):
        (copied / MANIFEST).write_text(json.dumps(manifest | changes))
        with pytest.raises(ModelFilesInvalid, match=MANIFEST):
            OnnxDecoder(copied, FINGERPRINT, threads=1)
    (copied / MANIFEST).unlink()
    with pytest.raises(ModelFilesMissing):
        OnnxDecoder(copied, FINGERPRINT, threads=1)


def test_the_manifest_is_written_as_the_golden_file_and_read_again(
    tmp_path: Path,
) -> None:
    """docs/storage.md describes it."""
    for name, content in zip((GRAPH, WEIGHTS, CANARY), b"abc", strict=True):
        (tmp_path / name).write_bytes(bytes([content]))
    shape = DecoderShape(
        layers=30,
        key_value_heads=3,
        head_size=64,
        hidden_size=576,
        vocabulary=49153,
        context_tokens=8192,
    )
    manifest = SecondPassManifest(
        fingerprint=FINGERPRINT,
        precision="float32",
        shape=shape,
        made_with={"onnxruntime": "1.32.0", "onnxruntime-genai": "0.18.0"},
        files=file_sums(tmp_path, but=MANIFEST),
    )
    write_manifest(tmp_path, manifest)
    written = (tmp_path / MANIFEST).read_bytes()
    assert written == (GOLDEN / "second-pass-v2.json").read_bytes()
    assert read_manifest(tmp_path, FINGERPRINT, SecondPassManifest) == manifest


@pytest.mark.parametrize(
    ("precision", "share_allowed", "share_refused"),
    [("float32", 0.0, 0.01), ("int8", 0.01, 1.5)],
)
def test_a_cpu_that_computes_otherwise_is_refused(
    precision: Precision, share_allowed: float, share_refused: float, tmp_path: Path
) -> None:
    """Here the stored logits are moved instead; the checksums agree."""
    _, generator, exported = exported_tiny_lvlm(precision=precision)
    for share in (share_allowed, share_refused):
        copied = Path(shutil.copytree(exported, tmp_path / f"{share}"))
        arrays = load_file(copied / CANARY)
        logits = arrays["logits"]
        logits[1, 3] += share * logits.std()
        save_file(arrays, copied / CANARY)
        text = (copied / MANIFEST).read_text()
        manifest = SecondPassManifest.model_validate_json(text)
        changed = manifest.model_copy(update={"files": file_sums(copied, but=MANIFEST)})
        write_manifest(copied, changed)
        if share == share_allowed:
            OnnxGenerator(PromptEmbedder.of(generator.model), copied, FINGERPRINT)
        else:
            with pytest.raises(EngineRefused, match="standard deviations"):
                OnnxGenerator(PromptEmbedder.of(generator.model), copied, FINGERPRINT)


def test_int8_rounds_the_weights_and_changes_little(
    exported: Path, decoder: OnnxDecoder
) -> None:
    in_int8 = exported_tiny_lvlm(precision="int8")[2]
    size, whole = ((each / WEIGHTS).stat().st_size for each in (in_int8, exported))
    assert size < whole / 3
    rounded = OnnxDecoder(in_int8, FINGERPRINT, threads=1)
    prompt = plain_embeddings(decoder, 12, seed=1)
    logits = []
    for each in (decoder, rounded):
        cache = KeyValueRows(each.shape)
        cache.reserve(1, len(prompt))
        logits.append(each.step(prompt[None], [0], cache))
    assert np.corrcoef(logits[0][0], logits[1][0])[0, 1] > 0.999
    assert not np.array_equal(*logits)


def test_a_row_in_int8_does_not_depend_on_the_rows_beside_it() -> None:
    rounded = OnnxDecoder(
        exported_tiny_lvlm(precision="int8")[2], FINGERPRINT, threads=1
    )
    rows = np.stack([plain_embeddings(rounded, 1, seed) for seed in range(3)])
    rows[2] *= 100

    def logits(chosen: np.ndarray) -> np.ndarray:
        cache = KeyValueRows(rounded.shape)
        cache.reserve(len(chosen), 1)
        return rounded.step(chosen, [0] * len(chosen), cache)

    np.testing.assert_allclose(logits(rows)[0], logits(rows[:1])[0], rtol=1e-5)


def test_a_failed_export_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = exported_tiny_lvlm()[1].model
    # The builder stops, as it does without the package.
    monkeypatch.setattr(export_module, "_BUILDER", "onnxruntime_genai.no_such_module")
    with pytest.raises(ExportFailed, match="no_such_module"):
        export(model, FINGERPRINT, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_language_models_without_an_export_say_so(tmp_path: Path) -> None:
    model = production_model(qwen2_5_vl)
    assert "qwen2_5_vl" in str(why_not_exportable(model))
    with pytest.raises(ExportFailed, match="qwen2_5_vl"):
        export(model, FINGERPRINT, tmp_path)


@pytest.mark.parametrize("kind", list(AdapterKind))
def test_the_adapter_of_the_second_pass_is_merged(kind: AdapterKind) -> None:
    """Of any kind, on top of the layer's own weights."""
    model = trained(tiny_model(adapters=kind))
    layer = model.decoder.get_submodule("layers.1.mlp.down_proj")
    hidden = torch.randn(3, layer.in_features)
    with torch.no_grad(), model.adapters.use("second_pass"):
        weight = merged_weight(model.decoder, "layers.1.mlp.down_proj.weight")
        torch.testing.assert_close(hidden @ weight.T, layer(hidden))


def test_merged_and_separate_adapters_are_exported_alike() -> None:
    model = trained(tiny_model()).requires_grad_(False)
    names = [
        "layers.0.self_attn.q_proj.weight",
        "layers.1.mlp.down_proj.weight",
        "norm.weight",
    ]
    with model.adapters.use("second_pass"):
        separate = [merged_weight(model.decoder, name) for name in names]
    model.merge_adapters()
    merged = [merged_weight(model.decoder, name) for name in names]
    for one, other in zip(separate, merged, strict=True):
        torch.testing.assert_close(one, other)
