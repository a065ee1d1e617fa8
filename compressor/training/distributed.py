"""Data parallelism: shard the batch, gather embeddings for global negatives, average gradients.

`accelerate launch` or `torchrun` starts the processes, one for each device; accelerate makes the
group (NCCL on GPUs, gloo on CPUs). Only the gradients of the trained parameters, some million
numbers, are averaged, once a step: the base model is frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.nn import all_gather
from transformers.modeling_layers import GradientCheckpointingLayer

from compressor.fwd2bot.model import SummaryLvlm

_T = TypeVar("_T")


@dataclass(frozen=True)
class Distributed:
    """The processes that train together. In a world of one every operation is a no-op."""

    rank: int = 0  # 0 keeps the log and the checkpoint
    world_size: int = 1

    @classmethod
    def from_environment(cls) -> Distributed:
        """The world that the launcher started this process in."""
        # NCCL needs GPUs: without one accelerate has to be told to take gloo.
        state = PartialState(cpu=not torch.cuda.is_available())
        return cls(int(state.process_index), int(state.num_processes))

    def all_gather(self, rows: Tensor) -> Tensor:
        """(N, …) → (all N, …): the rows of all ranks in order, N a rank's own.

        Gradients flow back to the rank that a row came from.
        """
        if self.world_size == 1:
            return rows
        # `all_gather` needs equal shapes: shorter parts are padded, and cut again afterwards.
        lengths = self.all_gather_object([len(rows)])
        missing = max(lengths) - len(rows)
        padding = rows.new_zeros(missing, *rows.shape[1:])
        padded = all_gather(torch.cat([rows, padding]))
        parts = []
        for part, length in zip(padded, lengths, strict=True):
            parts.append(part[:length])
        return torch.cat(parts)

    def all_gather_object(self, values: Sequence[_T]) -> list[_T]:
        """The values of all ranks, in order of rank."""
        if self.world_size == 1:
            return list(values)
        return list(gather_object(list(values)))

    def mean(self, value: float) -> float:
        """The mean over ranks of a number that each of them has."""
        return sum(self.all_gather_object([value])) / self.world_size

    def all_reduce_grads(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gives each parameter the mean of all ranks' gradients; a missing one counts as zero."""
        if self.world_size == 1:
            return
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in parameters:
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        # One message for each dtype: some hundred small ones would each wait for the slowest rank.
        for group in by_dtype.values():
            gradients = [_gradient(parameter).flatten() for parameter in group]
            sizes = [parameter.numel() for parameter in group]
            flat = torch.cat(gradients)
            torch.distributed.all_reduce(flat)
            flat /= self.world_size
            for parameter, part in zip(group, flat.split(sizes), strict=True):
                parameter.grad = part.view_as(parameter)

    def shard(self, samples: Sequence[_T]) -> Sequence[_T]:
        """This rank's part of a batch: every `world_size`-th sample."""
        return samples[self.rank :: self.world_size]


SINGLE = Distributed()


def _gradient(parameter: nn.Parameter) -> Tensor:
    # A rank may have no sample that reaches a parameter; the others wait for its part all the same.
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def shard_frozen_base(model: SummaryLvlm, world: Distributed) -> None:
    """Shards the frozen weights of all transformer layers (FSDP), and moves all to this device.

    What is trained is small and stays whole on every rank, so optimiser, checkpoint and averaging
    of gradients are as without. From here on all ranks must run the model equally often, since a
    layer's weights are gathered when it runs. A world of one keeps everything.
    """
    device = PartialState().device
    if world.world_size > 1:
        mesh = init_device_mesh(device.type, (world.world_size,))
        modules = list(model.base.modules())
        layers = [
            module
            for module in modules
            if isinstance(module, GradientCheckpointingLayer)
        ]
        for layer in layers:
            # One at a time: the whole model may not fit one device.
            layer.to(device)
            trained = {
                parameter for parameter in layer.parameters() if parameter.requires_grad
            }
            fully_shard(layer, mesh=mesh, ignored_params=trained)
    model.to(device)
