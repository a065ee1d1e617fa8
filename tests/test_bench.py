"""Every benchmark runs at its smallest size and ends with a line of JSON; none checks speed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import (
    ask,
    bytes,
    codec_share,
    cold_start,
    data_pipeline,
    durable_put,
    gpu,
    gpu_search,
    ingest,
    route_overhead,
    search,
    second_pass,
    second_question,
    start,
)
from bench.default_model import Model, base_folder, load
from bench.measure import Figure, in_turn, median_ratio, report
from bench.photographs import jpegs
from bench.serving import serving
from service.settings import Settings
from tests.conformance.tiny_lvlm import tiny_lvlm
from tests.conformance.tiny_onnx import exported_tiny_lvlm

LastLine = Callable[[], dict[str, Any]]


def fake_service(data_dir: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "tests.service.fake_server",
        "fake",
        str(data_dir),
    ]


@pytest.fixture
def last_line(capsys: pytest.CaptureFixture[str]) -> LastLine:
    """The last line of the benchmark that has just run; no figure is negative."""

    def read() -> dict[str, Any]:
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert line["figures"]
        assert all(value >= 0 for value in line["figures"].values())
        assert set(line["bars"]) <= set(line["figures"])
        return line

    return read


def tiny_model() -> Model:
    summary_model, generator = tiny_lvlm()
    return Model(summary_model._model, summary_model, generator)


def test_cold_start(tmp_path: Path, last_line: LastLine) -> None:
    (tmp_path / "weights").write_bytes(b"0" * 1000)
    cold_start.run(
        starts=1,
        photographs=2,
        command=fake_service,
        model_dir=tmp_path,
    )
    assert set(last_line()["bars"]) == {
        "ready_s",
        "resident_when_ready_gb",
        "resident_after_use_gb",
    }


def test_ingest(last_line: LastLine) -> None:
    ingest.run(
        tiny_model().summary_model,
        rounds=1,
        photographs=3,
        bare_photographs=3,
        matrix_side=64,
        command=fake_service,
    )
    assert set(last_line()["bars"]) == {"http_over_bare", "bare_over_limit"}


def test_flops_of_the_tiny_model_are_those_of_its_matrices() -> None:
    model = tiny_model()
    pictures = ingest.decoded_photographs(2)
    counted = ingest.count_flops(model.summary_model, pictures)
    inputs = model.lvlm.first_pass_inputs(pictures)
    text_weights = sum(
        module.weight.numel()
        for name, module in model.lvlm.base.get_decoder().named_modules()
        if name.endswith(".base_layer")
    )
    assert text_weights
    least = (
        2 * text_weights * inputs["input_ids"].shape[1]
    )  # the language model's alone
    assert least < counted < 20 * least


def test_ask(last_line: LastLine) -> None:
    ask.run(
        tiny_model(),
        rounds=2,
        photographs=2,
        command=fake_service,
    )
    line = last_line()
    assert set(line["bars"]) == {"uncompressed_over_stored", "uncompressed_over_http"}
    assert line["figures"]["stored_prompt_tokens"] > 0


def test_second_pass(last_line: LastLine) -> None:
    summary_model, generator, _ = exported_tiny_lvlm()
    second_pass.run(
        Model(summary_model._model, summary_model, generator), rounds=1, pictures=2
    )
    line = last_line()
    assert line["figures"]["onnx_same_answers_percent"] == 100
    assert {"torch_over_onnx", "torch_over_onnx_int8"} < set(line["bars"])


def test_second_question(last_line: LastLine) -> None:
    summary_model, generator, _ = exported_tiny_lvlm()
    second_question.run(Model(summary_model._model, summary_model, generator), rounds=2)
    assert set(last_line()["bars"]) == {"uncompressed_over_second_question"}


def test_a_first_token_is_not_a_part_of_a_prompt_that_was_read() -> None:
    """The uncompressed picture's prompt is read in parts, each of which yields a piece."""
    model = tiny_model()
    model.generator._prefill_tokens = 2
    piece = ask.from_picture(model, next(jpegs(1)), "what ?")
    assert piece.completion_tokens == 1


def test_search(last_line: LastLine) -> None:
    search.run(images=1000, rounds=3)
    figures = last_line()["figures"]
    assert figures["recall_of_10"] == 1  # so few are compared one by one


def test_bytes(last_line: LastLine) -> None:
    bytes.run(images=24, indexed=31_000)
    figures = last_line()["figures"]
    parts = (
        "tokens",
        "embedding",
        "record",
        "picture",
        "index",
        "rest",
    )
    assert sum(figures[f"default_{part}_bytes"] for part in parts) == pytest.approx(
        figures["mix16_thumbnail_bytes"]
    )
    assert (
        figures["sq4_thumbnail_bytes"]
        < figures["sq8_thumbnail_bytes"]
        < figures["fp16_thumbnail_bytes"]
    )
    assert (
        sum(
            figures[f"default_{part}_bytes"]
            for part in ("tokens", "embedding", "record")
        )
        <= 1024
    )


def test_codec_share(last_line: LastLine) -> None:
    codec_share.run(tiny_model(), rounds=1)
    assert set(last_line()["bars"]) == {"mix16_percent_of_first_pass"}


def test_data_pipeline(last_line: LastLine) -> None:
    data_pipeline.run(tiny_model().lvlm, samples=32, rounds=1)
    assert set(last_line()["bars"]) == {"samples_per_second_core"}


def test_durable_put(last_line: LastLine) -> None:
    durable_put.run(rounds=2)
    assert set(last_line()["bars"]) == {
        "store_to_one_table",
        "store_to_the_same_tables",
    }


def test_route_overhead(last_line: LastLine) -> None:
    route_overhead.run(rounds=2, photographs=3, command=fake_service)
    figures = last_line()["figures"]
    assert figures["record_bare_ms"] > 0
    assert {"list_ms", "ask_ms", "search_ms", "known_upload_ms"} <= set(figures)


def test_start(last_line: LastLine) -> None:
    start.run(images=31_000, starts=1)  # enough for an inverted file and its snapshot
    assert last_line()["figures"]["images"] == 31_000


@pytest.mark.model
def test_the_default_model_is_loaded_with_both_passes(last_line: LastLine) -> None:
    assert base_folder().is_relative_to(Settings().model_dir)
    model = load()
    ask_alone = ask.from_picture(
        model,
        next(jpegs(1)),
        "What is in the image?",
    )
    assert ask_alone.prompt_tokens > model.summary_model.tokens_shape[0]


def test_photographs_differ_and_come_again() -> None:
    first, again, other = list(jpegs(20)), list(jpegs(20)), list(jpegs(20, seed=1))
    assert first == again
    assert len({*first, *other}) == 40


def test_a_service_that_cannot_start_is_reported(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no model')"]
    with (
        pytest.raises(RuntimeError, match="no model"),
        serving(tmp_path / "service", lambda _: command),
    ):
        pass


def test_measurements_are_taken_in_turn() -> None:
    order: list[str] = []
    taken = in_turn(
        {"a": lambda: order.append("a") or 1.0, "b": lambda: order.append("b") or 2.0},
        rounds=2,
    )
    assert order == ["a", "b", "a", "b"]
    assert taken == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    assert median_ratio([2, 9, 8], [1, 3, 2]) == 3


def test_a_missed_bar_is_told(last_line: LastLine) -> None:
    report(
        "any",
        [
            Figure("low", 1, at_least=2),
            Figure("high", 1, at_most=2),
            Figure("free", 1),
        ],
    )
    bars = last_line()["bars"]
    assert bars == {
        "low": {"at_least": 2, "at_most": None, "met": False},
        "high": {"at_least": None, "at_most": 2, "met": True},
    }


def test_gpu_on_the_cpu(last_line: LastLine) -> None:
    """What needs only the card is rehearsed here, at its smallest size."""
    least = gpu.Sizes(
        batch_sizes=(1, 2),
        answer_tokens=3,
        rounds=1,
        matrix_side=64,
        copied_bytes=1 << 16,
    )
    gpu.run(tiny_model().lvlm, least)
    figures = last_line()["figures"]
    assert figures["second_pass_tokens_per_s_batch_2"] > 0
    assert figures["first_pass_images_per_s_batch_1"] > 0


def test_gpu_search_on_the_cpu(last_line: LastLine) -> None:
    gpu_search.run(
        vectors=2_000,
        queries=4,
        rounds=1,
        gpu="numpy",
    )
    assert last_line()["figures"]["neighbours_shared"] == 1.0
