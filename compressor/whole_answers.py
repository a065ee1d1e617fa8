"""Answers as whole texts, for those who do not show them as they come.

Knows only the generator's port.
"""

from __future__ import annotations

from collections.abc import Sequence

from compressor.ports import GenerationLimits, GenerationRequest, Generator


def whole_answers(
    generator: Generator, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
) -> list[str]:
    """The text of each request's answer. Raises CompressorError."""
    texts = [""] * len(requests)
    for piece in generator.generate(requests, limits):
        texts[piece.request] += piece.text
    return texts
