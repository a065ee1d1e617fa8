"""Where a model runs and in which number format: `auto`, or what a person asked for."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compressor.errors import DeviceUnavailable

if TYPE_CHECKING:
    import torch

# PyTorch is imported where a device is asked for: engines without it need none.

AUTO = "auto"
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Placement:
    """A device and a dtype, each by name or `auto`."""

    device: str = AUTO  # "cpu", "cuda", "cuda:1"
    dtype: str = AUTO  # one of DTYPES

    @property
    def is_plain_cpu(self) -> bool:
        """Whether the model runs on a CPU in float32; found out without PyTorch.

        A number format that somebody chose is kept to. Where there is a CUDA device, `auto` is left
        to PyTorch, which may have been built without CUDA.
        """
        is_float32 = self.dtype in (AUTO, "float32")
        if self.device == AUTO:
            return is_float32 and cuda_device_count() == 0
        return is_float32 and self.device == "cpu"

    def resolve(self, *, training: bool = False) -> tuple[torch.device, torch.dtype]:
        """The device and the dtype of the weights that are not trained.

        `auto` takes a CUDA device where there is one, and bfloat16 on it; on a CPU float32. A card
        too old for bfloat16 serves in float16.
        Raises DeviceUnavailable for a device or a dtype that this machine does not have.
        """
        device = self._device()
        dtype = self._dtype(device, training)
        _try(device, dtype)
        return device, dtype

    def _device(self) -> torch.device:
        import torch

        if self.device == AUTO:
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            return torch.device(self.device)
        except RuntimeError as error:
            raise DeviceUnavailable(
                f"{self.device!r} is not a device; use auto, cpu, cuda or cuda:1"
            ) from error

    def _dtype(self, device: torch.device, training: bool) -> torch.dtype:
        import torch

        if self.dtype != AUTO:
            if self.dtype not in DTYPES:
                names = ", ".join(DTYPES)
                raise DeviceUnavailable(
                    f"{self.dtype!r} is not a dtype; use auto, {names}"
                )
            chosen: torch.dtype = getattr(torch, self.dtype)
            return chosen
        if device.type != "cuda":
            return torch.float32
        # PyTorch emulates bfloat16 on cards before Ampere, several times slower than float16.
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        # Gradients in float16 underflow without loss scaling, so float16 only ever serves.
        return torch.float32 if training else torch.float16


ANYWHERE = Placement()  # the best device there is


def cuda_device_count() -> int:
    """CUDA devices that the driver has; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    # Both return 0 for success.
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _try(device: torch.device, dtype: torch.dtype) -> None:
    """Multiplies two small matrices: the one check that covers drivers, indices and dtypes."""
    import torch

    reason = "it holds no numbers"
    try:
        square = torch.ones(2, 2, device=device, dtype=dtype)
        product = square @ square
        # The meta device multiplies without an error, but its product has no value to compare.
        if device.type != "meta" and float(product.sum()) == 8.0:
            return
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
    name = str(dtype).removeprefix("torch.")
    raise DeviceUnavailable(
        f"{device} cannot compute in {name} on this machine: {reason}"
    )
