"""The two stage-specific LoRA adapters on the language model of an LVLM.

Knows nothing of images. PEFT's own `set_adapter` freezes the adapter it leaves, so that two could not train in one
step: `use` switches without touching `requires_grad`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, cast

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

AdapterName = Literal["first_pass", "second_pass"]
ADAPTERS: tuple[AdapterName, AdapterName] = ("first_pass", "second_pass")


def linear_layers_of_decoder(model: PreTrainedModel) -> list[str]:
    """Full names of all linear layers of the language model, the output head and the vision tower left out."""
    decoder = model.get_decoder()
    inside = {id(module) for module in decoder.modules() if isinstance(module, nn.Linear)}
    return [name for name, module in model.named_modules() if id(module) in inside]


def add_adapters(model: PreTrainedModel, rank: int, alpha: int) -> PeftModel:
    """Adds both adapters, untrained (they change nothing), trainable; the base model is frozen."""

    def config() -> LoraConfig:
        return LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear_layers_of_decoder(model))

    first, second = config(), config()
    with warnings.catch_warnings():
        # PEFT 0.21 reads a property that Transformers has renamed.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        wrapped = get_peft_model(model, first, adapter_name="first_pass")
        wrapped.add_adapter("second_pass", second)
    StageAdapters(wrapped).make_trainable()
    return wrapped


class StageAdapters:
    """Switches a model between its two adapters and none."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = [module for module in model.modules() if isinstance(module, LoraLayer)]

    def make_trainable(self) -> None:
        """Lets both adapters train in the same step."""
        for layer in self._layers:
            for weights in (layer.lora_A, layer.lora_B):
                for parameter in weights.parameters():
                    parameter.requires_grad_(True)

    @property
    def active(self) -> AdapterName | None:
        """The adapter in use."""
        return next((cast(AdapterName, name) for layer in self._layers[:1] for name in layer._active_adapter), None)

    def checkpoint_activations(self, model: PreTrainedModel) -> None:
        """Keeps of each decoder layer its input alone and computes the rest again in the backward pass.

        The recomputation runs under the adapter of its forward pass: by then another one may be in use.
        """

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), self.use(self.active)

        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False, "context_fn": contexts}
        )
        for layer in model.get_decoder().modules():
            if isinstance(layer, GradientCheckpointingLayer):
                layer.training = True  # what it asks before it checkpoints; its parts stay as they are

    @contextmanager
    def use(self, name: AdapterName | None) -> Iterator[None]:
        """Inside, forward passes use this adapter (or the base model alone); outside, the one from before."""
        before = [layer._active_adapter for layer in self._layers]
        active: list[str] = [name] if name is not None else []
        for layer in self._layers:
            layer._active_adapter = active
        try:
            yield
        finally:
            for layer, adapter in zip(self._layers, before, strict=True):
                layer._active_adapter = adapter
