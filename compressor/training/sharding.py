"""The frozen base model shared out over the processes of a run (FSDP): each keeps its part of every layer.

Knows nothing of losses. What is trained is small and stays whole everywhere, so optimiser, checkpoint and averaging of
gradients are as without; a layer's weights are gathered when it runs, forward and backward, and let go behind it.
"""

from __future__ import annotations

from accelerate import PartialState
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers.modeling_layers import GradientCheckpointingLayer

from compressor.lvlm import SummaryLvlm
from compressor.training.processes import Processes


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
