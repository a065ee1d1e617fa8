"""The default model's classes against the suites of both ports."""

from __future__ import annotations

from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import Generator, SummaryModel
from tests.compressor.tiny import tiny_model, trained
from tests.conformance.generator_suite import GeneratorSuite
from tests.conformance.summary_model_suite import SummaryModelSuite


def make() -> tuple[SummaryModel, Generator]:
    model = trained(tiny_model())
    model.requires_grad_(False)
    return LvlmSummaryModel(model, "0" * 32, batch_size=3), LvlmGenerator(model)


class TestSoftWordLlavaSummaryModel(SummaryModelSuite):
    @classmethod
    def make(cls) -> SummaryModel:
        return make()[0]


class TestSoftWordLlavaGenerator(GeneratorSuite):
    @classmethod
    def make(cls) -> tuple[SummaryModel, Generator]:
        return make()
