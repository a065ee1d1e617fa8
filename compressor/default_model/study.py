"""`precis study` with the default model's classes registered, so that its folder can be studied."""

from __future__ import annotations

from compressor.default_model import soft_word_llava  # noqa: F401  registers the model
from compressor.study.cli import study

__all__ = ["study"]

if __name__ == "__main__":
    study(prog_name="python -m compressor.default_model.study")
