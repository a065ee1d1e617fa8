"""Every summary model against the one suite."""

from __future__ import annotations

from pathlib import Path

from compressor.fwd2bot.onnx_engine.summary_model import OnnxSummaryModel
from compressor.ports import SummaryModel
from service.cluster.remote_model import remote_models
from service.settings import Settings
from tests.conformance.summary_model_suite import SummaryModelSuite
from tests.conformance.tiny_lvlm import tiny_lvlm
from tests.conformance.tiny_onnx import exported_tiny_first_pass
from tests.fakes.model import FakeSummaryModel, fake_models
from tests.service.cluster.local_replicas import local_deployments


class TestFakeSummaryModel(SummaryModelSuite):
    @classmethod
    def make(cls) -> SummaryModel:
        return FakeSummaryModel()


class TestLvlmSummaryModel(SummaryModelSuite):
    @classmethod
    def make(cls) -> SummaryModel:
        return tiny_lvlm()[0]


class TestOnnxSummaryModel(SummaryModelSuite):
    @classmethod
    def make(cls) -> SummaryModel:
        in_torch, folder = exported_tiny_first_pass()
        return OnnxSummaryModel(folder, in_torch.fingerprint)


class TestRemoteSummaryModel(SummaryModelSuite):
    @classmethod
    def make(cls) -> SummaryModel:
        deployments = local_deployments(Settings(), fake_models)
        return remote_models(*deployments, Path("no files")).summary
