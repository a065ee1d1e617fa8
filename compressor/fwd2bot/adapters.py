"""The LoRA adapters on the language model of an LVLM: one for each pass, or one for both.

PEFT's own `set_adapter` freezes the adapter it leaves, so that two could not train in one step:
`use` switches without touching `requires_grad`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from compressor.errors import ModelFilesInvalid
from compressor.fwd2bot.config import ALL_LINEAR, AdapterKind

AdapterName = Literal["first_pass", "second_pass"]
ADAPTERS: tuple[AdapterName, AdapterName] = ("first_pass", "second_pass")
SHARED = "shared"


def linear_layers_of_decoder(model: PreTrainedModel) -> list[str]:
    """Full names of the decoder's linear layers: no output head, no vision tower."""
    decoder: nn.Module = model.get_decoder()
    inside = {
        id(module) for module in decoder.modules() if isinstance(module, nn.Linear)
    }
    return [name for name, module in model.named_modules() if id(module) in inside]


def target_layers(model: PreTrainedModel, names: Sequence[str]) -> list[str]:
    """Full names of the language model's linear layers whose names end so, or of all.

    Raises ModelFilesInvalid for a name that no layer has.
    """
    layers = linear_layers_of_decoder(model)
    if ALL_LINEAR in names:
        return layers
    targets = []
    for name in names:
        matching = [layer for layer in layers if f".{layer}".endswith(f".{name}")]
        if not matching:
            there = ", ".join(sorted({layer.rsplit(".", 1)[-1] for layer in layers}))
            raise ModelFilesInvalid(
                f"the language model has no linear layer {name}; there are {there}"
            )
        targets += matching
    return sorted(set(targets))


def add_adapters(
    model: PreTrainedModel,
    rank: int,
    alpha: int,
    targets: Sequence[str] = (ALL_LINEAR,),
    kind: AdapterKind = AdapterKind.STAGE_SPECIFIC,
) -> PeftModel:
    """Adds the adapters, untrained (they change nothing), trainable; the base model is frozen.

    Raises ModelFilesInvalid for target modules that the model does not have.
    """
    layers = target_layers(model, targets)

    def config() -> LoraConfig:
        return LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(layers))

    # PEFT wraps no model without an adapter; that of NONE is never used, trained or saved.
    first, *others = adapter_names(kind) or (SHARED,)
    with warnings.catch_warnings():
        # PEFT 0.21 reads a property that Transformers has renamed.
        warnings.filterwarnings(
            "ignore", ".*is_gradient_checkpointing.*", FutureWarning
        )
        wrapped = get_peft_model(model, config(), adapter_name=first)
        for name in others:
            wrapped.add_adapter(name, config())
    StageAdapters(wrapped, kind).make_trainable()
    return wrapped


def adapter_names(kind: AdapterKind) -> tuple[str, ...]:
    """Names of the adapters that a model of this kind has."""
    names: dict[AdapterKind, tuple[str, ...]] = {
        AdapterKind.STAGE_SPECIFIC: ADAPTERS,
        AdapterKind.SHARED: (SHARED,),
        AdapterKind.NONE: (),
    }
    return names[kind]


class StageAdapters:
    """Switches a model between the adapter of each pass and none."""

    def __init__(
        self, model: nn.Module, kind: AdapterKind = AdapterKind.STAGE_SPECIFIC
    ) -> None:
        self._layers = [
            module for module in model.modules() if isinstance(module, LoraLayer)
        ]
        self._kind = kind

    def make_trainable(self) -> None:
        """Lets all adapters train in the same step."""
        trains = self._kind != AdapterKind.NONE
        for layer in self._layers:
            for weights in (layer.lora_A, layer.lora_B):
                for parameter in weights.parameters():
                    parameter.requires_grad_(trains)

    @property
    def active(self) -> str | None:
        """The adapter in use."""
        active = self._active()
        return active[0] if active else None

    def _active(self) -> list[str]:
        return list(self._layers[0]._active_adapter)

    def checkpoint_activations(self, model: PreTrainedModel) -> None:
        """Gradient checkpointing: the backward pass computes each decoder layer again.

        The recomputation runs under the adapter of its forward pass: by then another one may be in
        use.
        """

        # PyTorch asks for both contexts in the forward pass: the second one, for the backward pass,
        # remembers the adapter that is in use now.
        def contexts() -> tuple[
            AbstractContextManager[None], AbstractContextManager[None]
        ]:
            return nullcontext(), self._activated(self._active())

        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={
                "use_reentrant": False,
                "context_fn": contexts,
            }
        )
        decoder: nn.Module = model.get_decoder()
        for layer in decoder.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                # What a layer asks before it checkpoints; its parts stay in evaluation mode.
                layer.training = True

    def use(self, name: AdapterName | None) -> AbstractContextManager[None]:
        """Inside, forward passes use this pass's adapter or none; outside, the one from before."""
        names = adapter_names(self._kind)
        if name is None or not names:
            return self._activated([])
        return self._activated([SHARED if self._kind == AdapterKind.SHARED else name])

    @contextmanager
    def _activated(self, active: list[str]) -> Iterator[None]:
        # PEFT's `set_adapter` would freeze the adapter it leaves; a layer reads this list alone to
        # decide what it adds.
        before = [layer._active_adapter for layer in self._layers]
        for layer in self._layers:
            layer._active_adapter = active
        try:
            yield
        finally:
            for layer, adapter in zip(self._layers, before, strict=True):
                layer._active_adapter = adapter


# Serving folds both adapters into the weights. An adapter that is not merged costs two small
# products and two sums over the outputs of every linear layer, at every step. With W the base
# weights and B A an adapter (LoRA, arXiv 2106.09685), a layer holds W₂ = W + B₂A₂ for the second
# pass and, for the first, W₂x + [B₁ −B₂][A₁; A₂]x: the same in arithmetic, one copy of W.


class MergedAdapters:
    """Switches merged layers between the passes; takes the place of `StageAdapters`."""

    def __init__(self) -> None:
        self.first_pass = False

    @contextmanager
    def use(self, name: AdapterName | None) -> Iterator[None]:
        """Inside, forward passes use this adapter; outside, the one from before.

        The base model is no more on its own: None is the second pass, which only reads and writes.
        """
        before, self.first_pass = self.first_pass, name == "first_pass"
        try:
            yield
        finally:
            self.first_pass = before


class MergedLinear(nn.Module):
    """(…, inputs) → (…, outputs) of one linear layer and its two adapters. For inference only."""

    down: Tensor
    up: Tensor

    def __init__(self, layer: LoraLayer, adapters: MergedAdapters) -> None:
        super().__init__()
        linear = cast(nn.Linear, layer.get_base_layer())
        self.linear = linear
        self._adapters = adapters
        first_down, first_up = _factors(layer, "first_pass")
        second_down, second_up = _factors(layer, "second_pass")
        _add_product(linear.weight.data, second_up, second_down)
        dtype = linear.weight.dtype
        down = torch.cat([first_down, second_down])
        up = torch.cat([first_up, -second_up], dim=1)
        self.register_buffer("down", down.to(dtype))  # (both ranks, inputs)
        self.register_buffer(
            "up", up.t().contiguous().to(dtype)
        )  # (both ranks, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Of the second pass, or of the first inside `use("first_pass")`."""
        # The second pass runs at every generated token and so gets the plain layer.
        result: Tensor = self.linear(x)
        if self._adapters.first_pass:
            low = nn.functional.linear(x, self.down)
            # Straight onto the result: no second array of its size is written.
            result.view(-1, result.shape[-1]).addmm_(
                low.view(-1, low.shape[-1]), self.up
            )
        return result

    def merged_parameter(self, name: str) -> Tensor:
        """float32 `weight` or `bias` of a plain layer that does the same as this one now."""
        parameter = self.linear.get_parameter(name).detach().float()
        if name == "weight" and self._adapters.first_pass:
            return torch.addmm(parameter, self.up.t().float(), self.down.float())
        return parameter


def merge_adapters(model: PeftModel) -> MergedAdapters:
    """Merges both adapters for good: the model cannot be trained or saved any more.

    Returns the switch that takes the place of `StageAdapters`. Raises ValueError the second time.
    """
    adapters = MergedAdapters()
    modules = model.named_modules()
    layers = [
        (name, module) for name, module in modules if isinstance(module, LoraLayer)
    ]
    if not layers:
        raise ValueError("the adapters are merged already")
    with torch.no_grad():
        for name, layer in layers:
            # Layer by layer, so that the adapters' weights are freed on the way.
            model.set_submodule(name, MergedLinear(layer, adapters))
    return adapters


def _add_product(weight: Tensor, up: Tensor, down: Tensor) -> None:
    """weight += up @ down, in place: rounded once, where the weights are coarser than float32."""
    if weight.dtype == torch.float32:
        weight.addmm_(up, down)  # a product of its own would fragment memory
        return
    # The default model's tokens in bfloat16 differ from float32's by 1.0 % with adapters merged
    # this way and by 2.2 % with separate ones; in float16 by 0.15 % either way. A float32 product
    # for the first pass's difference gains nothing (1.0 %, 0.17 %).
    weight.copy_(torch.addmm(weight.float(), up, down))


def _factors(layer: LoraLayer, name: AdapterName) -> tuple[Tensor, Tensor]:
    """(rank, inputs) and (outputs, rank) in float32, the scaling in the second."""
    down = cast(nn.Linear, layer.lora_A[name]).weight.detach().float()
    up = cast(nn.Linear, layer.lora_B[name]).weight.detach().float()
    return down, up * layer.scaling[name]


def merged_weight(decoder: nn.Module, name: str) -> Tensor:
    """float32 parameter `name` of the plain decoder, the adapters in use merged."""
    path, _, attribute = name.rpartition(".")
    module = decoder.get_submodule(path)
    if isinstance(module, MergedLinear):
        return module.merged_parameter(attribute)
    if isinstance(module, LoraLayer):
        layer: Any = module  # a Linear of PEFT's, beside being a LoraLayer
        weight: Tensor = layer.get_base_layer().get_parameter(attribute)
        if attribute == "weight":  # LoRA leaves a bias as it is
            for adapter in layer.active_adapters:
                weight = weight + layer.get_delta_weight(adapter)
        return weight.detach().float()
    return module.get_parameter(attribute).detach().float()
