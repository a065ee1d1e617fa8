"""Sessions of ONNX Runtime over exported graphs."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime

from compressor.errors import ModelFilesInvalid


def default_threads() -> int:
    """One for each CPU that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_session(
    graph: Path, threads: int, *, has_arena: bool = True
) -> onnxruntime.InferenceSession:
    """Loads a graph for the CPU. Raises ModelFilesInvalid.

    With an arena, ONNX Runtime keeps the memory that a run needed for the next one.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = has_arena
    # Between two steps the cores belong to the other pass.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
    # Its errors have no base class of their own.
    except Exception as error:
        raise ModelFilesInvalid(
            f"ONNX Runtime does not load {graph}: {error}"
        ) from error
