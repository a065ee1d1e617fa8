"""A frozen vision tower runs once a batch, though first pass and teacher both read what it sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from compressor.fwd2bot.model import SummaryLvlm


@contextmanager
def seen_once(model: SummaryLvlm) -> Iterator[None]:
    """Within the block the vision tower is not run again for the inputs that it had last.

    A tower that is trained, or has adapters, is run every time: each pass has an output of its own.
    """
    tower = model.base.get_encoder(modality="image")
    if not isinstance(tower, nn.Module) or tower is model.base or _is_tuned(tower):
        yield
        return
    forward = tower.forward
    last: tuple[Any, Any] | None = None

    def remembered(*args: Any, **kwargs: Any) -> Any:
        nonlocal last
        inputs: dict[Any, Any] = dict(enumerate(args)) | kwargs
        if last is None or not _are_equal(last[0], inputs):
            last = inputs, forward(*args, **kwargs)
        return last[1]

    # Not a hook: none can keep a module from running.
    tower.forward = remembered
    try:
        yield
    finally:
        tower.forward = forward


def _is_tuned(tower: nn.Module) -> bool:
    trained = any(parameter.requires_grad for parameter in tower.parameters())
    return trained or any(isinstance(each, BaseTunerLayer) for each in tower.modules())


def _are_equal(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(_is_equal(one[name], other[name]) for name in one)


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same_kind = one.dtype == other.dtype and one.shape == other.shape
        return one is other or (same_kind and torch.equal(one, other))
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return False
    return bool(one == other)
