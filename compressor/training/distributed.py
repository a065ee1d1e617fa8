"""The processes that train together: which part of a batch is whose, and what they tell one
another.

Knows nothing of models. Started by `accelerate launch` or `torchrun`, each process has one device;
accelerate makes the group (NCCL on GPUs, gloo on CPUs). The gradients of the trained parameters,
some million numbers, are averaged once a step: no more is needed where the base model is frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

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


class Processes(Protocol):
    """What a training step asks of the others."""

    @property
    def rank(self) -> int:
        """0 is the first: it keeps log and checkpoint."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def gathered(self, rows: Tensor) -> Tensor:
        """(all N, …) rows of all processes, in order of rank, from (N, …), N of each its own;
        gradients flow back.
        """
        ...

    def all_of(self, values: Sequence[_T]) -> list[_T]:
        """The values of all processes, in order of rank."""
        ...

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gives each parameter the mean of all processes' gradients; a process without one counts as zero."""
        ...


class Alone:
    """One process."""

    rank, count = 0, 1

    def gathered(self, rows: Tensor) -> Tensor:
        """See Processes."""
        return rows

    def all_of(self, values: Sequence[_T]) -> list[_T]:
        """See Processes."""
        return list(values)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """See Processes."""


class Together:
    """Several, each started with its rank in the environment."""

    def __init__(self, state: PartialState) -> None:
        self.rank, self.count = int(state.process_index), int(state.num_processes)

    def gathered(self, rows: Tensor) -> Tensor:
        """See Processes. `all_gather` wants equal shapes, so shorter ones are filled up and cut again."""
        lengths = self.all_of([len(rows)])
        filled = torch.cat([rows, rows.new_zeros(max(lengths) - len(rows), *rows.shape[1:])])
        return torch.cat(
            [part[:length] for part, length in zip(all_gather(filled), lengths, strict=True)]
        )

    def all_of(self, values: Sequence[_T]) -> list[_T]:
        """See Processes."""
        return list(gather_object(list(values)))

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """See Processes. All in one message for each dtype."""
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in parameters:
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        for same in by_dtype.values():
            here = [torch.zeros_like(each) if each.grad is None else each.grad for each in same]
            flat = torch.cat([gradient.flatten() for gradient in here])
            torch.distributed.all_reduce(flat)
            flat /= self.count
            parts = flat.split([each.numel() for each in same])
            for parameter, part in zip(same, parts, strict=True):
                parameter.grad = part.view_as(parameter)


def started() -> Processes:
    """The processes this one was started with."""
    state = PartialState(cpu=not torch.cuda.is_available())
    return Together(state) if state.num_processes > 1 else Alone()


def share(samples: Sequence[_T], processes: Processes) -> Sequence[_T]:
    """The part of a batch that is this process's: every `count`-th."""
    return samples[processes.rank :: processes.count]


# The frozen base model shared out over the processes of a run (FSDP): each keeps its part of every
# layer. What is trained is small and stays whole everywhere, so optimiser, checkpoint and averaging
# of gradients are as without; a layer's weights are gathered when it runs, forward and backward,
# and let go behind it.


def shard_base(model: SummaryLvlm, processes: Processes) -> None:
    """Shares out the frozen weights of all transformer layers, and moves all to this process's device.

    From here on all processes must run the model equally often. One process alone keeps everything.
    """
    device = PartialState().device
    if processes.count > 1:
        mesh = init_device_mesh(device.type, (processes.count,))
        for layer in model.base.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                layer.to(device)  # one at a time: the whole may not fit
                trained = {parameter for parameter in layer.parameters() if parameter.requires_grad}
                fully_shard(layer, mesh=mesh, ignored_params=trained)
    model.to(device)
