"""Both adapters folded into the weights for serving: the second pass runs without any, the first adds a difference.

Knows nothing of passes' inputs. An adapter that is not merged costs two small products and two sums over the outputs
of every linear layer, at every step. With W the base weights and B A an adapter (LoRA, arXiv 2106.09685), a layer holds
W₂ = W + B₂A₂ for the second pass and, for the first, W₂x + [B₁ −B₂][A₁; A₂]x: the same in arithmetic, one copy of W.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from compressor.adapters import AdapterName
from compressor.lvlm import SummaryLvlm


class MergedAdapters:
    """Switches merged layers between the passes; takes the place of `StageAdapters`."""

    def __init__(self) -> None:
        self.first_pass = False

    @contextmanager
    def use(self, name: AdapterName) -> Iterator[None]:
        """Inside, forward passes use this adapter; outside, the one from before."""
        before, self.first_pass = self.first_pass, name == "first_pass"
        try:
            yield
        finally:
            self.first_pass = before


class MergedLinear(nn.Module):
    """(…, inputs) → (…, outputs) of one linear layer and its two adapters. For inference only."""

    def __init__(self, layer: LoraLayer, adapters: MergedAdapters) -> None:
        super().__init__()
        self.linear = layer.get_base_layer()
        self._adapters = adapters
        first_down, first_up = _factors(layer, "first_pass")
        second_down, second_up = _factors(layer, "second_pass")
        self.linear.weight.data.addmm_(second_up, second_down)  # in place: a product of its own would fragment memory
        self.register_buffer("down", torch.cat([first_down, second_down]))  # (both ranks, inputs)
        self.register_buffer("up", torch.cat([first_up, -second_up], dim=1).t().contiguous())  # (both ranks, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Of the second pass, or of the first inside `use("first_pass")`."""
        result: Tensor = self.linear(x)
        if self._adapters.first_pass:
            low = nn.functional.linear(x, self.down)
            # Straight onto the result: no second array of its size is written.
            result.view(-1, result.shape[-1]).addmm_(low.view(-1, low.shape[-1]), self.up)
        return result


def merge_adapters(model: SummaryLvlm) -> None:
    """Merges both adapters for good: the model cannot be trained or saved any more. For float32 weights.

    In a coarser type the difference would not take back what rounding did to the sum.
    Raises ValueError the second time.
    """
    adapters = MergedAdapters()
    layers = [(name, module) for name, module in model.lvlm.named_modules() if isinstance(module, LoraLayer)]
    if not layers:
        raise ValueError("the adapters are merged already")
    with torch.no_grad():
        for name, layer in layers:
            model.lvlm.set_submodule(name, MergedLinear(layer, adapters))
    model.adapters = adapters


def _factors(layer: LoraLayer, name: AdapterName) -> tuple[Tensor, Tensor]:
    """(rank, inputs) and (outputs, rank), the scaling in the second."""
    return layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach() * layer.scaling[name]
