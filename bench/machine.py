"""The machine that a benchmark runs on, and the versions of what it runs."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = (
    "precis-service",
    "torch",
    "transformers",
    "onnxruntime",
    "onnxruntime-genai",
    "faiss-cpu",
    "numpy",
    "pillow",
)
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """What a reader needs to judge a figure by."""

    processor: str
    cores: int  # logical
    memory_gb: int
    system: str
    accelerator: str | None  # the device that was measured, if not the processor


def this_machine(accelerator: str | None = None) -> Machine:
    """The machine of this process."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1e9),
        system=f"{platform.system()} {platform.machine()}",
        accelerator=accelerator,
    )


def versions() -> dict[str, str]:
    """Of Python, and of those of PACKAGES that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an extra that this installation lacks
            continue
    return found


def _processor() -> str:
    """Its name; where the system does not tell it, its architecture."""
    # On Linux, `platform.processor` gives the architecture or nothing.
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.exists() else []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
