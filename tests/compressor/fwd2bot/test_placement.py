"""Devices and dtypes by name; what a machine lacks is one clear line."""

from __future__ import annotations

import pytest
import torch

from compressor.errors import DeviceUnavailable
from compressor.fwd2bot.placement import Placement


def as_if_a_card(monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    """A stand-in for a CUDA device: its matrices are made on the CPU."""
    ones = torch.ones

    def on_the_cpu(
        *shape: int, device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        assert device.type == "cuda"
        return ones(*shape, dtype=dtype)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16
    )
    monkeypatch.setattr(torch, "ones", on_the_cpu)


def test_auto_is_float32_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for training in (False, True):
        placed = Placement().resolve(training=training)
        assert placed == (torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("bfloat16", "training", "dtype"),
    [
        (True, False, torch.bfloat16),
        (True, True, torch.bfloat16),
        (False, False, torch.float16),
        (False, True, torch.float32),
    ],
)
def test_auto_on_a_card(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool, training: bool, dtype: torch.dtype
) -> None:
    as_if_a_card(monkeypatch, bfloat16)
    assert Placement().resolve(training=training) == (torch.device("cuda"), dtype)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_dtype_by_name(name: str) -> None:
    assert Placement("cpu", name).resolve() == (
        torch.device("cpu"),
        getattr(torch, name),
    )


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        (Placement("toaster"), "'toaster' is not a device"),
        (Placement("cpu", "int4"), "'int4' is not a dtype"),
        (Placement("cuda:99"), "cuda:99 cannot compute"),
        (Placement("meta"), "meta cannot compute"),
    ],
)
def test_what_is_not_there_is_one_line(placement: Placement, message: str) -> None:
    with pytest.raises(DeviceUnavailable, match=message) as raised:
        placement.resolve()
    assert "\n" not in str(raised.value)
