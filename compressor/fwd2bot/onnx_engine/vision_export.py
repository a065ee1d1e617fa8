"""Exports the vision side of an LVLM: from pixels to the tokens that stand for an image.

How that is computed differs from model to model, so the model's own class says it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import onnx
import torch
from torch import Tensor, nn
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.onnx_engine.folder import PIXELS, VISUAL_TOKENS, PixelFormat
from compressor.fwd2bot.onnx_engine.whole_numbers import pack_whole_numbers

_OPSET = 18
_BATCH = 2  # of the traced example: an operation on one picture alone might be traced as such


@runtime_checkable
class TraceableVision(Protocol):
    """An LVLM that makes the same number of tokens of every picture, by a graph of fixed shape."""

    def visual_tokens(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, height, width) pixels of the processor's size → (B, V, D)."""
        ...


def why_vision_not_exportable(model: SummaryLvlm) -> str | None:
    """Why the vision side has no export; None if it has one."""
    if not isinstance(model.base, TraceableVision):
        return f"the vision tower of a {model.base.config.model_type} has no export"
    images = model.processor.image_processor
    is_squeezed = (
        isinstance(images, CLIPImageProcessorPil)
        and images.do_resize
        and images.do_rescale
        and images.do_normalize
        and not images.do_center_crop
        and images.size.get("height")
        and images.size.get("width")
    )
    if not is_squeezed:
        return f"pictures as a {type(images).__name__} prepares them have no export"
    return None


def pixel_format(images: Any) -> PixelFormat:
    """The settings of an image processor that `why_vision_not_exportable` has no objection to."""
    return PixelFormat(
        height=images.size["height"],
        width=images.size["width"],
        resample=int(images.resample),
        scale=float(images.rescale_factor),
        mean=tuple(map(float, images.image_mean)),
        std=tuple(map(float, images.image_std)),
    )


def write_vision(model: SummaryLvlm, path: Path) -> None:
    """Writes the graph, and its weights beside it under its name and `.data`."""
    form = pixel_format(model.processor.image_processor)
    example = torch.zeros(_BATCH, 3, form.height, form.width)
    with warnings.catch_warnings(), torch.no_grad():
        # Shapes are constants of the graph, of which the tracer warns; so it does of the exporter
        # that is built on it, beside which there is one that needs another package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Vision(cast(TraceableVision, model.base)),
            (example,),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=[PIXELS],
            output_names=[VISUAL_TOKENS],
            dynamic_axes={PIXELS: {0: "batch"}, VISUAL_TOKENS: {0: "batch"}},
        )
    graph = onnx.load(path)
    pack_whole_numbers(graph)
    # In a file of their own, which ONNX Runtime maps into memory.
    onnx.save(
        graph,
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
    )


class _Vision(nn.Module):
    def __init__(self, lvlm: TraceableVision) -> None:
        super().__init__()
        self.lvlm = lvlm

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.lvlm.visual_tokens(pixel_values)
