"""The default model's retrieval head: states of the finished first pass, then its three parts, one
after the other.

Knows nothing of files but WordNet's. The first part is trained with contrast on pictures and their
captions; sentences and names have a part each, learnt for the most part from texts without
pictures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from compressor.default_model.data import texts
from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.photos import FOLDS, LABEL_CAPTIONS, Photo, Photos, named
from compressor.default_model.data.questions import changed
from compressor.default_model.data.scenes import compose
from compressor.default_model.data.texts import Noun, WordNet, photo_of, searches, teaching_texts
from compressor.default_model.projector import NAME_TOKENS
from compressor.default_model.training.retrieval_parts import (
    Names,
    Sentences,
    States,
    alike,
    fit,
    fit_names,
    fit_sentences,
)
from compressor.default_model.training.teacher import teach
from compressor.default_model.vocabulary import mean_embedding, name_token_ids
from compressor.fwd2bot.model import SummaryLvlm

# Hidden states of training pictures and texts, computed once by the finished first pass, for the
# retrieval head. Pictures: each photograph plain and mirrored, and composed scenes. Scenes have a
# second caption that is wrong in a single thing, the right caption's rival.


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
    teaches: list[tuple[bool, ...]] = field(
        default_factory=list
    )  # of each picture: the parts of the embedding
    folds: list[int] = field(default_factory=list)  # of each picture

    def say(self, text: str, owner: int, rival: int = -1) -> None:
        self.texts.append(text)
        self.owners.append(owner)
        self.rivals.append(rival)


def first_pass_states(
    model: SummaryLvlm,
    photos: Sequence[Photo],
    objects: Objects,
    seed: int,
    scene_count: int = SCENES,
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
            states.append(first.hidden_states)
            tokens.append(first.tokens)
    texts = text_states(model, said.texts)
    told = (torch.tensor(each) for each in (said.owners, said.rivals, said.teaches, said.folds))
    found = States(torch.cat(states).clone(), texts, *told)
    return found, torch.cat(tokens).clone()


def text_states(model: SummaryLvlm, texts: Sequence[str]) -> Tensor:
    """(M, C) states of M texts."""
    different = sorted(
        dict.fromkeys(texts), key=len
    )  # of about one length in a batch: little padding
    with torch.inference_mode():
        read = [
            model.text_states(different[start : start + _TEXTS])
            for start in range(0, len(different), _TEXTS)
        ]
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


SENTENCES, NAMES = 1, 2  # parts of the embedding, as `default.SUMMARY` has them
_NOUNS = 9000
_CAPTION = "a photo of {}"


def train_head(
    model: SummaryLvlm, photos: Photos, objects: Objects, wordnet_folder: Path, seed: int
) -> Tensor:
    """Fits the head; returns the (N, K, D) summary tokens of the training pictures. Raises
    CompressorError.
    """
    known = texts.read(wordnet_folder, photos.held_out_labels)
    states, tokens = first_pass_states(model, photos.training, objects, seed)
    fit_parts(model, photos, states, known, seed)
    return tokens


def fit_parts(
    model: SummaryLvlm, photos: Photos, states: States, known: WordNet, seed: int
) -> None:
    """Fits all parts of the head to the states of the training pictures and to WordNet's texts."""
    model.head.fit_statistics(states.images, states.texts[states.owners >= 0])
    fit_sentences(model.head, SENTENCES, _sentences(model, photos, states, known, seed))
    fit_names(model.head, NAMES, _names(model, photos.training, states, known, seed), seed=seed)
    fit(
        model.head,
        with_searches(model, photos.training, states, known),
        seed=seed,
        fitted=(SENTENCES, NAMES),
    )


def with_searches(
    model: SummaryLvlm, photos: Sequence[Photo], states: States, known: WordNet
) -> States:
    """The states, and those of the short texts that photographs are searched for with."""
    nouns = {noun.text for noun in known.frequent}
    wanted = [texts for photo in photos for texts in [searches(photo, nouns)] * VIEWS]
    different = list(dict.fromkeys(text for texts in wanted for text in texts))
    place = {text: len(states.texts) + number for number, text in enumerate(different)}
    none = torch.full((len(different),), -1)
    return replace(
        states,
        texts=torch.cat([states.texts, text_states(model, different)]),
        owners=torch.cat([states.owners, none]),
        rivals=None if states.rivals is None else torch.cat([states.rivals, none]),
        searches=[[place[text] for text in texts] for texts in wanted]
        + [[] for _ in range(len(states.images) - len(wanted))],
    )


def _sentences(
    model: SummaryLvlm, photos: Photos, states: States, known: WordNet, seed: int
) -> Sentences:
    part = model.head.parts[SENTENCES]
    weights = teaching_texts(photos.training, known, photos.held_out_labels, seed)
    texts = list(weights)
    taught = teach(texts)
    place = {text: number for number, text in enumerate(texts)}
    words = mean_embedding(model.tokenizer, model.embedding.weight)
    captions = [photo.captions for photo in photos.training if photo.captions]
    rows = _rows(photos.training, lambda photo: bool(photo.captions))
    return Sentences(
        states=text_states(model, texts),
        weights=torch.tensor(list(weights.values())),
        taught=taught,
        words=torch.stack(
            [torch.stack([words(text) for text in each]).mean(0) for each in captions]
        ),
        captions=torch.stack([taught[[place[text] for text in each]].mean(0) for each in captions]),
        images=states.images[rows][:, int(part.positions[0])][:, part.channels],
    )


def _names(
    model: SummaryLvlm, photos: Sequence[Photo], states: States, known: WordNet, seed: int
) -> Names:
    rng = random.Random(f"names/{seed}")
    nouns = _chosen(known, rng)
    ids = torch.tensor([name_token_ids(noun.text, model.tokenizer) for noun in nouns])
    part = model.head.parts[NAMES]
    labels = [named(str(photo.label)) for photo in photos if photo.label for _ in range(VIEWS)]
    pictures = states.images[_rows(photos, lambda photo: bool(photo.label))]
    return Names(
        tokens=model.embedding.weight[ids].detach(),
        alike=alike(teach([photo_of(noun, random.Random(0)) for noun in nouns])),
        states=text_states(model, [photo_of(noun, rng) for noun in nouns]),
        offsets=model.embedding.summary[:NAME_TOKENS].detach(),
        pictures=pictures[:, :NAME_TOKENS][:, :, part.channels],
        captions=text_states(model, [_CAPTION.format(label) for label in labels]),
    )


def _chosen(known: WordNet, rng: random.Random) -> list[Noun]:
    """All that are met in texts, and some of the rest."""
    frequent = known.frequent[:_NOUNS]
    rare = [noun for noun in known.nouns if not noun.count]
    return frequent + rng.sample(rare, min(len(rare), _NOUNS - len(frequent)))


def _rows(photos: Sequence[Photo], wanted: Callable[[Photo], bool]) -> list[int]:
    """Rows of the photographs' views among the states."""
    return [
        VIEWS * number + view
        for number, photo in enumerate(photos)
        if wanted(photo)
        for view in range(VIEWS)
    ]
