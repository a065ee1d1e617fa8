"""Pictures as the pixels that an exported vision tower sees, in NumPy.

Bit by bit what the Pillow image processors of Transformers make, for those that squeeze a picture
into a size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from compressor.fwd2bot.onnx_engine.folder import PixelFormat


def pixels(image: Image, form: PixelFormat) -> NDArray[np.float32]:
    """(3, height, width) of an RGB image of any size."""
    resized = image.resize((form.width, form.height), Resampling(form.resample))
    values = np.moveaxis(np.asarray(resized), -1, 0)
    # Multiplied in float64 and rounded once.
    scaled = (values.astype(np.float64) * form.scale).astype(np.float32)
    mean = np.array(form.mean, np.float32)[:, None, None]
    std = np.array(form.std, np.float32)[:, None, None]
    normalised: NDArray[np.float32] = (scaled - mean) / std
    return normalised
