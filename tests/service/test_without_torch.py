"""The service without PyTorch: both passes exported, and a process that never imports it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compressor.errors import ExportFailed, ModelFilesMissing
from compressor.fwd2bot.exported_passes import load_first_pass
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.onnx_engine.export import export
from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator
from compressor.fwd2bot.onnx_engine.summary_model import OnnxSummaryModel
from compressor.fwd2bot.placement import Placement
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from service.models import Models, _passes, export_passes
from service.settings import Settings, default_model_dir
from tests.conformance.tiny_onnx import exported_tiny_first_pass

FINGERPRINT = "0" * 32
ROOT = Path(__file__).parents[2]
CPU = Placement("cpu")

# Prints what a service has imported of what takes seconds and it can do without, after an upload, a
# search and an answer.
SERVE = """
import sys
from pathlib import Path

from fastapi.testclient import TestClient

from compressor.fwd2bot.placement import Placement
from service.app import create_app
from service.models import MODELS, _passes, load_models
from service.runtime import Runtime
from service.settings import Settings
from service.use_cases.images import decode


def tiny(settings):
    return _passes(settings, Placement("cpu"), "0" * 32, None)


MODELS["tiny"] = tiny
model, model_dir, data_dir, photograph = sys.argv[1:]
settings = Settings(model=model, model_dir=model_dir, data_dir=data_dir, device="cpu")
runtime = Runtime(settings, load_models, decode=decode)
with TestClient(create_app(runtime)) as client:
    assert runtime.worker.loaded.wait(300)
    files = {"file": ("1.jpg", Path(photograph).read_bytes(), "image/jpeg")}
    (image,) = client.post("/images", files=files).json()["images"]
    assert image["status"] == "created", image
    (hit,) = client.get("/search", params={"q": "a cat"}).json()["results"]
    assert hit["id"] == image["id"]
    question = {"question": "Is it?", "image_ids": [image["id"]], "max_tokens": 8}
    assert client.post("/ask", json=question).status_code == 200
    limited = client.post("/ask", json={**question, "format": {"type": "yes_no"}})
    assert limited.json()["answer"] in ("Yes", "No"), limited.text
print(sorted({"torch", "transformers", "peft", "mcp"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both passes of a tiny model."""
    in_torch, folder = exported_tiny_first_pass()
    place = tmp_path_factory.mktemp("models")
    shutil.copytree(folder, place / folder.name)
    export(in_torch.model, FINGERPRINT, place)
    return place


def imported_by_a_service(model: str, model_dir: Path, data_dir: Path) -> str:
    photograph = ROOT / "service" / "web" / "samples" / "cat.jpg"
    done = subprocess.run(
        [sys.executable, "-c", SERVE, model, model_dir, data_dir, photograph],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_a_service_with_both_exports_imports_no_torch(
    model_dir: Path, tmp_path: Path
) -> None:
    assert imported_by_a_service("tiny", model_dir, tmp_path) == "[]"


@pytest.mark.model
def test_a_service_of_the_default_model_imports_no_torch(tmp_path: Path) -> None:
    folder = default_model_dir()
    exported = list(export_passes(Settings(model_dir=folder)))
    assert not any(isinstance(each, ExportFailed) for each in exported)
    assert imported_by_a_service("default", folder, tmp_path) == "[]"


def passes(**changes: object) -> Models:
    def load() -> tuple[LvlmSummaryModel, LvlmGenerator]:
        in_torch = exported_tiny_first_pass()[0]
        return in_torch, LvlmGenerator(in_torch.model)

    return _passes(Settings(**changes), CPU, FINGERPRINT, load)


def test_what_is_exported_decides_what_auto_takes(
    model_dir: Path, tmp_path: Path
) -> None:
    both = passes(model_dir=model_dir)
    assert isinstance(both.summary, OnnxSummaryModel)
    assert isinstance(both.generator, OnnxGenerator)
    neither = passes(model_dir=tmp_path)
    assert isinstance(neither.summary, LvlmSummaryModel)
    assert isinstance(neither.generator, LvlmGenerator)
    first = passes(model_dir=model_dir, second_pass_engine="torch")
    assert isinstance(first.summary, OnnxSummaryModel)
    assert isinstance(first.generator, LvlmGenerator)
    second = passes(model_dir=model_dir, first_pass_engine="torch")
    assert isinstance(second.summary, LvlmSummaryModel)
    assert isinstance(second.generator, OnnxGenerator)
    # Those whose canaries were computed.
    assert [each.is_warm for each in (both, neither, first, second)] == [
        True,
        False,
        False,
        False,
    ]


def test_a_named_engine_that_cannot_serve_is_an_error(
    model_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelFilesMissing):
        passes(model_dir=tmp_path, first_pass_engine="onnx")
    with pytest.raises(ModelFilesMissing):
        passes(model_dir=model_dir, second_pass_engine="onnx-int8")
    settings = Settings(model_dir=model_dir, first_pass_engine="onnx")
    with pytest.raises(ExportFailed, match="adapters"):
        _passes(settings, CPU, None, lambda: None)
    assert load_first_pass(model_dir, FINGERPRINT).fingerprint == FINGERPRINT


def test_a_number_format_that_somebody_chose_is_kept_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("compressor.fwd2bot.placement.cuda_device_count", lambda: 0)
    assert Placement().is_plain_cpu
    assert Placement("cpu", "float32").is_plain_cpu
    assert not Placement("cpu", "bfloat16").is_plain_cpu
    assert not Placement("cuda").is_plain_cpu
    monkeypatch.setattr("compressor.fwd2bot.placement.cuda_device_count", lambda: 1)
    assert not Placement().is_plain_cpu
    assert Placement("cpu").is_plain_cpu
