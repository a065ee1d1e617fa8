"""A few training samples drawn here, and an endless stream of them that can be taken up again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from compressor.default_model.data.photos import Photo
from compressor.training.sample import QA, Sample

KINDS = (
    ("red", "cat"),
    ("blue", "dog"),
    ("green", "tree"),
    ("yellow", "sports car"),
    ("white", "coffee mug"),
)


def sample(number: int) -> Sample:
    """A plain picture with a name."""
    colour, name = KINDS[number % len(KINDS)]
    image = Image.new("RGB", (40, 30), colour)
    asked = (
        QA("What is in the image?", f"A {name}.", "photo_naming"),
        QA("Which colour?", f"{colour}.", "background"),
    )
    return Sample(image, asked, f"a {colour} {name}", "labels", Photo(Path("none.png"), name, ()))


class Stream:
    """Stands for `Mixture`; `before` is called with the position of each sample."""

    def __init__(self, before: Callable[[int], None] = lambda _: None) -> None:
        self.position, self._before = 0, before

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        self._before(self.position)
        self.position += 1
        return sample(self.position - 1)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"]


def uneven_batch() -> list[Sample]:
    """Seven samples that differ in captions, numbers of questions and lengths of answers; two have
    no caption.
    """
    batch = [sample(number) for number in range(7)]
    batch[1] = replace(batch[1], caption="", questions=batch[1].questions[:1])
    batch[2] = replace(batch[2], caption="")
    batch[3] = replace(
        batch[3],
        questions=(*batch[3].questions, QA("Where?", "a red car on a green hill.", "where")),
    )
    return batch
