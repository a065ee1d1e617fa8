"""Every generator against the one suite."""

from __future__ import annotations

from compressor.ports import Generator, SummaryModel
from tests.conformance.generator_suite import GeneratorSuite
from tests.conformance.tiny_lvlm import tiny_lvlm
from tests.fakes.model import FakeGenerator, FakeSummaryModel


class TestFakeGenerator(GeneratorSuite):
    @classmethod
    def make(cls) -> tuple[SummaryModel, Generator]:
        return FakeSummaryModel(), FakeGenerator()


class TestLvlmGenerator(GeneratorSuite):
    @classmethod
    def make(cls) -> tuple[SummaryModel, Generator]:
        return tiny_lvlm()

    @classmethod
    def make_constrained(cls) -> tuple[SummaryModel, Generator]:
        return tiny_lvlm(of_bytes=True)
