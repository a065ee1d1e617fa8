"""The tiny LVLM whose second pass a fake of vLLM serves, one server for all tests."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from compressor.fwd2bot.causal_lm import save_causal_lm
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from tests.compressor.tiny import trained
from tests.conformance.tiny_lvlm import tiny_lvlm
from tests.fakes.vllm_server import FakeVllm, fake_vllm


@cache
def served_tiny_lvlm(
    *, of_bytes: bool = False
) -> tuple[LvlmSummaryModel, LvlmGenerator, FakeVllm]:
    """Both passes in PyTorch, and the server of the second."""
    summary, generator = tiny_lvlm(of_bytes=of_bytes)
    trained(generator.model.requires_grad_(True)).requires_grad_(False)
    place = Path(tempfile.mkdtemp(prefix="precis-vllm-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    save_causal_lm(generator.model, summary.fingerprint, place / "lm")
    stack = ExitStack()
    atexit.register(stack.close)
    server = stack.enter_context(fake_vllm(place / "lm", summary.fingerprint))
    return summary, generator, server
