"""Every generator against the one suite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator
from compressor.fwd2bot.onnx_engine.prompt_embedder import PromptEmbedder
from compressor.fwd2bot.vllm_engine import VllmGenerator
from compressor.ports import Generator, SummaryModel
from service.cluster.remote_model import remote_models
from service.settings import Settings
from tests.conformance.generator_suite import AnswerFormSuite, GeneratorSuite
from tests.conformance.tiny_lvlm import tiny_lvlm
from tests.conformance.tiny_onnx import exported_tiny_lvlm
from tests.conformance.tiny_vllm import served_tiny_lvlm
from tests.fakes.model import FakeGenerator, FakeSummaryModel, fake_models
from tests.service.cluster.local_replicas import local_deployments


class TestFakeGenerator(GeneratorSuite, AnswerFormSuite):
    @classmethod
    def make(cls) -> tuple[SummaryModel, Generator]:
        return FakeSummaryModel(), FakeGenerator()

    @classmethod
    def make_constrained(cls) -> tuple[SummaryModel, Generator]:
        return cls.make()


class TestLvlmGenerator(GeneratorSuite, AnswerFormSuite):
    @classmethod
    def make(cls) -> tuple[SummaryModel, Generator]:
        return tiny_lvlm()

    @classmethod
    def make_constrained(cls) -> tuple[SummaryModel, Generator]:
        return tiny_lvlm(of_bytes=True)


class TestOnnxGenerator(GeneratorSuite, AnswerFormSuite):
    @classmethod
    def make(cls) -> tuple[SummaryModel, Generator]:
        summary, generator, folder = exported_tiny_lvlm()
        return summary, OnnxGenerator(
            PromptEmbedder.of(generator.model), folder, summary.fingerprint
        )

    @classmethod
    def make_constrained(cls) -> tuple[SummaryModel, Generator]:
        summary, generator, folder = exported_tiny_lvlm(of_bytes=True)
        return summary, OnnxGenerator(
            PromptEmbedder.of(generator.model), folder, summary.fingerprint
        )


class TestVllmGenerator(GeneratorSuite, AnswerFormSuite):
    """The generator holds connections, so its fixtures close it."""

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls) -> Iterator[tuple[SummaryModel, Generator]]:
        summary, generator, server = served_tiny_lvlm()
        with closing(
            VllmGenerator(generator.model, server.url, summary.fingerprint)
        ) as over_http:
            yield summary, over_http

    @pytest.fixture(scope="class")
    @classmethod
    def constrained(cls) -> Iterator[tuple[SummaryModel, Generator]]:
        summary, generator, server = served_tiny_lvlm(of_bytes=True)
        with closing(
            VllmGenerator(generator.model, server.url, summary.fingerprint)
        ) as over_http:
            yield summary, over_http


class TestRemoteGenerator(GeneratorSuite, AnswerFormSuite):
    @classmethod
    def make(cls) -> tuple[SummaryModel, Generator]:
        deployments = local_deployments(Settings(), fake_models)
        models = remote_models(*deployments, Path("no files"))
        return models.summary, models.generator

    @classmethod
    def make_constrained(cls) -> tuple[SummaryModel, Generator]:
        return cls.make()


class TestOnnxGeneratorInInt8(GeneratorSuite, AnswerFormSuite):
    @classmethod
    def make(cls) -> tuple[SummaryModel, Generator]:
        summary, generator, folder = exported_tiny_lvlm(precision="int8")
        return summary, OnnxGenerator(
            PromptEmbedder.of(generator.model), folder, summary.fingerprint
        )

    @classmethod
    def make_constrained(cls) -> tuple[SummaryModel, Generator]:
        summary, generator, folder = exported_tiny_lvlm(of_bytes=True, precision="int8")
        return summary, OnnxGenerator(
            PromptEmbedder.of(generator.model), folder, summary.fingerprint
        )
