"""Hidden states of training pictures and texts, computed once by the finished first pass, for the retrieval head.

Knows nothing of the head. Pictures: each photograph plain and mirrored, and composed scenes. Scenes have a second
caption that is wrong in a single thing, the right caption's rival.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from compressor.lvlm import SummaryLvlm
from compressor.training.data.captions import changed
from compressor.training.data.objects import Objects
from compressor.training.data.photos import FOLDS, LABEL_CAPTIONS, Photo, named
from compressor.training.data.scenes import compose
from compressor.training.retrieval_fit import States

SCENES = 600
VIEWS = 2  # of each photograph, in a row before the scenes: plain and mirrored
_BATCH = 16
_TEXTS = 64


@dataclass
class _Texts:
    """What is said of which picture."""

    texts: list[str] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    rivals: list[int] = field(default_factory=list)
    teaches: list[tuple[bool, ...]] = field(default_factory=list)  # of each picture: the parts of the embedding
    folds: list[int] = field(default_factory=list)  # of each picture

    def say(self, text: str, owner: int, rival: int = -1) -> None:
        self.texts.append(text)
        self.owners.append(owner)
        self.rivals.append(rival)


def first_pass_states(
    model: SummaryLvlm, photos: Sequence[Photo], objects: Objects, seed: int, scene_count: int = SCENES
) -> tuple[States, Tensor]:
    """States of all pictures and texts, and the pictures' (N, K, D) summary tokens."""
    said = _Texts()
    states, tokens = [], []
    with torch.inference_mode():
        pictures = _pictures(photos, objects, seed, scene_count, said)
        while batch := list(islice(pictures, _BATCH)):
            images, folds = zip(*batch, strict=True)
            with model.base.as_if_unseen([()] * len(batch), folds):
                first = model.first_pass(model.first_pass_inputs(images))
            states.append(first.image_states)
            tokens.append(first.tokens)
    texts = text_states(model, said.texts)
    told = (torch.tensor(each) for each in (said.owners, said.rivals, said.teaches, said.folds))
    found = States(torch.cat(states).clone(), texts, *told)
    return found, torch.cat(tokens).clone()


def text_states(model: SummaryLvlm, texts: Sequence[str]) -> Tensor:
    """(M, C) states of M texts."""
    different = sorted(dict.fromkeys(texts), key=len)  # of about one length in a batch: little padding
    with torch.inference_mode():
        read = [model.text_states(different[start : start + _TEXTS]) for start in range(0, len(different), _TEXTS)]
    place = {text: number for number, text in enumerate(different)}
    return torch.cat(read)[[place[text] for text in texts]].clone()


def _pictures(
    photos: Sequence[Photo], objects: Objects, seed: int, scene_count: int, said: _Texts
) -> Iterator[tuple[Image.Image, int | None]]:
    """The pictures in order, each with its fold; what is said of each is noted when it comes."""
    number = 0
    for photo in photos:
        texts = photo.captions
        if photo.label:
            texts = tuple(dict.fromkeys(form.format(named(photo.label)) for form in LABEL_CAPTIONS))
        image = photo.open()
        for view in (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
            for text in texts:
                said.say(text, number)
            said.teaches.append((bool(photo.label), not photo.label, bool(photo.label)))
            said.folds.append(photo.fold)
            yield view, photo.fold
            number += 1
    rng = random.Random(f"retrieval/{seed}")
    for scene_number in range(scene_count):
        scene = compose(rng, objects)
        pair = changed(scene, rng, objects)
        said.say(pair.right, number, rival=len(said.texts) + 1)
        said.say(pair.wrong, -1)
        said.teaches.append((True, True, True))
        said.folds.append(scene_number % FOLDS)
        yield scene.image, None
        number += 1
