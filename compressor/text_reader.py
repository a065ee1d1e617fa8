"""Text in pictures, read by RapidOCR with the PP-OCR models inside its package (extra `ocr`)."""

from __future__ import annotations

import importlib.util
import threading
from typing import Any

import numpy as np
from PIL.Image import Image

from compressor.errors import TextReaderFailed, TextReaderMissing

_PARAMS = {
    "Global.log_level": "error",
    # The longer side that the detector sees. By default it enlarges the shorter side to 736 px,
    # and a picture of 768 x 1 px to gigabytes.
    "Det.limit_type": "max",
    "Det.limit_side_len": 960,
    # One thread: the model's own work goes on meanwhile.
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
}


def is_installed() -> bool:
    """Whether the packages of the extra `ocr` are there."""
    packages = ("rapidocr", "onnxruntime")
    return all(importlib.util.find_spec(name) is not None for name in packages)


class RapidTextReader:
    """See TextReader. Loads its models with the first picture."""

    def __init__(self) -> None:
        """Raises TextReaderMissing."""
        if not is_installed():
            raise TextReaderMissing(
                "reading text in pictures needs `pip install rapidocr onnxruntime`"
            )
        self._lock = threading.Lock()
        self._engine: Any = None

    def read(self, image: Image) -> list[str]:
        """See TextReader."""
        # Its colours are in OpenCV's order.
        pixels = np.ascontiguousarray(np.asarray(image)[..., ::-1])
        # The engine keeps state between its steps.
        with self._lock:
            try:
                found = self._loaded()(pixels)
            except Exception as error:
                # OpenCV and ONNX Runtime raise errors of their own.
                raise TextReaderFailed(
                    f"the text in a picture could not be read: {error}"
                ) from error
        lines = [text.strip() for text in found.txts or ()]
        return [line for line in lines if line]

    def _loaded(self) -> Any:
        if self._engine is None:
            from rapidocr import RapidOCR

            self._engine = RapidOCR(params=_PARAMS)
        return self._engine
