"""The sample pictures of the web page are what their list says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import skimage
from PIL import Image

import service

SAMPLES = Path(service.__file__).parent / "web" / "samples"
SIDE_PX = 640


@pytest.mark.parametrize(
    ("sample", "original"),
    [("cat", "chelsea.png"), ("coffee", "coffee.png"), ("rocket", "rocket.jpg")],
)
def test_samples_are_what_their_list_says(sample: str, original: str) -> None:
    listing = (SAMPLES / "README.md").read_text()
    content = (SAMPLES / f"{sample}.jpg").read_bytes()
    assert hashlib.sha256(content).hexdigest() in listing
    assert f"| {sample}.jpg | {original} |" in listing
    source = Image.open(Path(skimage.__file__).parent / "data" / original)
    reduced = source.convert("RGB")
    reduced.thumbnail((SIDE_PX, SIDE_PX))
    kept = Image.open(SAMPLES / f"{sample}.jpg")
    assert kept.size == reduced.size
    ends = [image.resize((8, 8)).tobytes() for image in (kept, reduced)]
    assert max(abs(a - b) for a, b in zip(*ends, strict=True)) < 8
