"""Every summary model against the one suite."""

from __future__ import annotations

from compressor.ports import SummaryModel
from tests.conformance.summary_model_suite import SummaryModelSuite
from tests.conformance.tiny_lvlm import tiny_lvlm
from tests.fakes.model import FakeSummaryModel


class TestFakeSummaryModel(SummaryModelSuite):
    @classmethod
    def make(cls) -> SummaryModel:
        return FakeSummaryModel()


class TestLvlmSummaryModel(SummaryModelSuite):
    @classmethod
    def make(cls) -> SummaryModel:
        return tiny_lvlm()[0]
