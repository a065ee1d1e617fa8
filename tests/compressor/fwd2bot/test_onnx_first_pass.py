"""The first pass on ONNX Runtime against PyTorch: the export, its folder, what it makes."""

from __future__ import annotations

import copy
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from peft.tuners.lora import LoraLayer
from PIL import Image
from safetensors.numpy import load_file, save_file

from compressor.errors import (
    EngineRefused,
    ExportFailed,
    ModelFilesInvalid,
    ModelFilesMissing,
)
from compressor.fwd2bot.causal_lm import plain_causal_lm
from compressor.fwd2bot.onnx_engine.export import (
    export_first_pass,
    why_first_pass_not_exportable,
)
from compressor.fwd2bot.onnx_engine.exported_processor import ExportedProcessor
from compressor.fwd2bot.onnx_engine.file_sums import CHECKED, file_sums
from compressor.fwd2bot.onnx_engine.folder import (
    CANARY,
    FIRST_PASS_FILES,
    GRAPH,
    MANIFEST,
    WORDS,
    FirstPassManifest,
    write_manifest,
)
from compressor.fwd2bot.onnx_engine.pixels import pixels
from compressor.fwd2bot.onnx_engine.prompt_embedder import PromptEmbedder
from compressor.fwd2bot.onnx_engine.summary_model import OnnxSummaryModel
from compressor.fwd2bot.onnx_engine.vision_export import pixel_format
from compressor.fwd2bot.prompts import PromptRenderer
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import GenerationLimits, GenerationRequest, Turn
from tests.compressor.tiny import tiny_model, trained
from tests.conformance.summary_model_suite import pictures
from tests.conformance.tiny_lvlm import tiny_lvlm
from tests.conformance.tiny_onnx import exported_tiny_first_pass

FINGERPRINT = "0" * 32
TEXTS = ["A cat.", "two red apples and a kite", "", "why? " * 200, "<image>", "ß Ünï"]
# Each readout and pooling, and states of the first, inner and last layers.
KINDS = [
    (),
    (("readout", "hidden"), ("pooling", "mean"), ("embedding_layers", (0, -1))),
    (("pooling", "last"), ("embedding_layers", (-1,))),
]


@pytest.fixture(scope="module")
def in_torch() -> LvlmSummaryModel:
    return exported_tiny_first_pass()[0]


@pytest.fixture(scope="module")
def exported() -> Path:
    return exported_tiny_first_pass()[1]


@pytest.fixture(scope="module")
def on_onnx(exported: Path) -> OnnxSummaryModel:
    return OnnxSummaryModel(exported, FINGERPRINT)


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "copied"))


def near(computed: np.ndarray, expected: np.ndarray) -> None:
    assert computed.dtype == expected.dtype
    np.testing.assert_allclose(computed, expected, atol=1e-4 * expected.std())


@pytest.mark.parametrize("changes", KINDS)
def test_tokens_and_embeddings_are_those_of_torch(
    changes: tuple[tuple[str, object], ...],
) -> None:
    in_torch, folder = exported_tiny_first_pass(*changes)
    on_onnx = OnnxSummaryModel(folder, FINGERPRINT)
    images = pictures() + pictures()[::-1]
    expected, computed = in_torch.compress(images), on_onnx.compress(images)
    near(computed.tokens, expected.tokens)
    near(computed.embeddings, expected.embeddings)
    assert (
        expected.tokens[0].std()
        > 10 * np.abs(computed.tokens[0] - expected.tokens[0]).max()
    )
    near(on_onnx.embed_text(TEXTS), in_torch.embed_text(TEXTS))


def test_words_published_in_eight_bits_stay_so(tmp_path: Path) -> None:
    model = tiny_model(64)
    words = model.embedding.weight
    blocks = words.detach().reshape(-1, 32)
    scales = (blocks.abs().amax(1, keepdim=True) / 127).half().float()
    rounded = (blocks / scales).round().clamp(-127, 127) * scales
    words.data.copy_(rounded.reshape(words.shape))
    model.merge_adapters()
    in_torch = LvlmSummaryModel(model.requires_grad_(False), FINGERPRINT)
    folder = export_first_pass(in_torch, tmp_path)
    assert np.load(folder / WORDS).dtype == np.int8
    on_onnx = OnnxSummaryModel(folder, FINGERPRINT)
    near(on_onnx.compress(pictures()).tokens, in_torch.compress(pictures()).tokens)
    near(on_onnx.embed_text(TEXTS), in_torch.embed_text(TEXTS))


def test_a_language_model_published_in_four_bits_stays_so(tmp_path: Path) -> None:
    model = tiny_model(64)
    for layer in model.decoder.modules():
        if isinstance(layer, LoraLayer):
            weight = layer.get_base_layer().weight.data
            blocks = weight.reshape(-1, 32)
            least = blocks.amin(1, keepdim=True).half().float()
            scale = ((blocks.amax(1, keepdim=True) - least) / 15).half().float()
            codes = ((blocks - least) / scale).round().clamp(0, 15)
            codes[:, 3], codes[:, 17] = 0, 15
            weight.copy_((codes * scale + least).reshape(weight.shape))
    published = copy.deepcopy(plain_causal_lm(model, torch.float32))
    trained(model).merge_adapters()
    in_torch = LvlmSummaryModel(model.requires_grad_(False), FINGERPRINT)
    folder = export_first_pass(in_torch, tmp_path, lambda: published)
    kinds = Counter(node.op_type for node in onnx.load(folder / GRAPH).graph.node)
    layers = len(published.model.layers)
    # Those of 48 inputs have no blocks.
    assert (kinds["MatMulNBits"], kinds["ReduceSum"]) == (4 * layers, 3 * layers + 1)
    on_onnx = OnnxSummaryModel(folder, FINGERPRINT)
    near(on_onnx.compress(pictures()).tokens, in_torch.compress(pictures()).tokens)
    near(on_onnx.embed_text(TEXTS), in_torch.embed_text(TEXTS))


def test_it_describes_itself_as_the_model_in_torch(
    in_torch: LvlmSummaryModel, on_onnx: OnnxSummaryModel
) -> None:
    for each in ("fingerprint", "description", "tokens_shape", "embedding_size"):
        assert getattr(on_onnx, each) == getattr(in_torch, each)
    assert on_onnx.compress([]).tokens.shape == in_torch.compress([]).tokens.shape
    assert on_onnx.embed_text([]).shape == in_torch.embed_text([]).shape


def test_pixels_are_those_of_the_processor_bit_by_bit(
    in_torch: LvlmSummaryModel,
) -> None:
    processor = in_torch.model.processor.image_processor
    form = pixel_format(processor)
    noise = np.random.default_rng(3).integers(0, 256, (71, 133, 3), np.uint8)
    for image in [*pictures(), Image.fromarray(noise)]:
        expected = processor([image], return_tensors="np")["pixel_values"][0]
        np.testing.assert_array_equal(pixels(image, form), expected)


def test_prompts_of_the_second_pass_are_those_of_torch(
    in_torch: LvlmSummaryModel, on_onnx: OnnxSummaryModel
) -> None:
    images = list(on_onnx.compress(pictures()[:2]).tokens)
    turns = [
        Turn("user", "What is in the image? <image>"),
        Turn("assistant", "A kite."),
        Turn("user", "Why?"),
    ]
    requests = [
        GenerationRequest(images[:count], turns[-length:])
        for count in (0, 1, 2)
        for length in (1, 3)
    ]
    limits = [GenerationLimits()] * len(requests)
    theirs = PromptEmbedder.of(in_torch.model)
    expected = theirs.prompts(requests, limits)
    computed = on_onnx.text_side.prompts(requests, limits)
    for one, other in zip(computed, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert on_onnx.text_side.end_ids == theirs.end_ids


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}\n  {%- if m.role == 'user' %}\nU: {% endif %}"
        "{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
        "\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}{{ eos_token }}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_chat_template_renders_as_in_transformers(template: str) -> None:
    model = tiny_model()
    model.processor.chat_template = template
    special = dict(model.tokenizer.special_tokens_map)
    plain = ExportedProcessor(model.backend_tokenizer, template, special)
    texts = []
    for processor in (model.processor, plain):
        renderer = PromptRenderer(processor, model.image_token_id)
        messages = renderer.messages(1, [("user", "What?"), ("assistant", "It.")])
        try:
            texts.append(renderer.render(messages))
        except Exception as error:
            texts.append(f"{type(error).__name__}: {error}")
    assert texts[0] == texts[1] != ""


# The folder


def test_a_second_export_finds_the_first(
    in_torch: LvlmSummaryModel, exported: Path
) -> None:
    assert export_first_pass(in_torch, exported.parent) == exported
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]
    names = {path.name for path in exported.iterdir()}
    assert names == {*FIRST_PASS_FILES, MANIFEST, CHECKED}


def test_an_export_of_version_2_serves_and_a_new_one_takes_its_place(
    in_torch: LvlmSummaryModel, exported: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(exported, tmp_path / exported.name))
    manifest = json.loads((copied / MANIFEST).read_text())
    assert manifest["format_version"] == 3
    # The tiny model's words are float32 in both.
    (copied / MANIFEST).write_text(json.dumps(manifest | {"format_version": 2}))
    assert OnnxSummaryModel(copied, FINGERPRINT).fingerprint == FINGERPRINT
    assert export_first_pass(in_torch, tmp_path) == copied
    assert json.loads((copied / MANIFEST).read_text())["format_version"] == 3


@pytest.mark.parametrize("name", FIRST_PASS_FILES)
def test_a_missing_cut_or_damaged_file_is_found(name: str, copied: Path) -> None:
    data = (copied / name).read_bytes()
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    for content in (damaged, data[:-1]):
        (copied / name).write_bytes(content)
        with pytest.raises(ModelFilesInvalid, match=name):
            OnnxSummaryModel(copied, FINGERPRINT)
    (copied / name).unlink()
    with pytest.raises(ModelFilesInvalid, match=name):
        OnnxSummaryModel(copied, FINGERPRINT)


def test_a_folder_of_another_version_or_model_is_refused(copied: Path) -> None:
    with pytest.raises(ModelFilesInvalid, match="belongs to the model"):
        OnnxSummaryModel(copied, "1" * 32)
    manifest = json.loads((copied / MANIFEST).read_text())
    for changes in ({"format_version": 1}, {"more": 1}, {"files": {}}, {"pixels": {}}):
        (copied / MANIFEST).write_text(json.dumps(manifest | changes))
        with pytest.raises(ModelFilesInvalid, match=MANIFEST):
            OnnxSummaryModel(copied, FINGERPRINT)
    unknown = manifest | {"summary": manifest["summary"] | {"more": 1}}
    (copied / MANIFEST).write_text(json.dumps(unknown))
    with pytest.raises(ModelFilesInvalid, match="more"):
        OnnxSummaryModel(copied, FINGERPRINT)
    (copied / MANIFEST).unlink()
    with pytest.raises(ModelFilesMissing):
        OnnxSummaryModel(copied, FINGERPRINT)


@pytest.mark.parametrize("name", ["tokens", "image_embedding", "text_embedding"])
def test_a_cpu_that_computes_otherwise_is_refused(name: str, copied: Path) -> None:
    """Here what is stored is moved instead; the checksums agree."""
    arrays = load_file(copied / CANARY)
    arrays[name].flat[3] += 0.01 * arrays[name].std()
    save_file(arrays, copied / CANARY)
    text = (copied / MANIFEST).read_text()
    manifest = FirstPassManifest.model_validate_json(text)
    changed = manifest.model_copy(update={"files": file_sums(copied, but=MANIFEST)})
    write_manifest(copied, changed)
    with pytest.raises(EngineRefused, match="standard deviations"):
        OnnxSummaryModel(copied, FINGERPRINT)


def test_models_without_an_export_say_so(tmp_path: Path) -> None:
    summary = tiny_lvlm()[0]
    assert "llava" in str(why_first_pass_not_exportable(summary.model))
    with pytest.raises(ExportFailed, match="llava"):
        export_first_pass(summary, tmp_path)
    in_turn = tiny_model(readout="soft_words_in_turn")
    assert "one by one" in str(why_first_pass_not_exportable(in_turn))
    cropped = tiny_model()
    cropped.processor.image_processor.do_center_crop = True
    assert "CLIP" in str(why_first_pass_not_exportable(cropped))
    assert list(tmp_path.iterdir()) == []
