"""The default model's retrieval head: states of the finished first pass, then its three parts, one after the other.

Knows nothing of files but WordNet's. The first part is trained with contrast on pictures and their captions; sentences
and names have a part each, learnt for the most part from texts without pictures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from compressor.lvlm import SummaryLvlm
from compressor.training.data import wordnet
from compressor.training.data.objects import Objects
from compressor.training.data.photos import Photo, Photos, named
from compressor.training.data.searches import searches
from compressor.training.data.teaching_texts import photo_of, teaching_texts
from compressor.training.data.wordnet import Noun, WordNet
from compressor.training.names_fit import Names, alike, fit_names
from compressor.training.retrieval_fit import States, fit
from compressor.training.retrieval_states import VIEWS, first_pass_states, text_states
from compressor.training.sentences_fit import Sentences, fit_sentences
from compressor.training.teacher import teach
from compressor.word_projector import NAME_TOKENS
from compressor.words import mean_embedding, name_token_ids

SENTENCES, NAMES = 1, 2  # parts of the embedding, as `default.SUMMARY` has them
_NOUNS = 9000
_CAPTION = "a photo of {}"


def train_head(model: SummaryLvlm, photos: Photos, objects: Objects, wordnet_folder: Path, seed: int) -> Tensor:
    """Fits the head; returns the (N, K, D) summary tokens of the training pictures. Raises CompressorError."""
    known = wordnet.read(wordnet_folder, photos.held_out_labels)
    states, tokens = first_pass_states(model, photos.training, objects, seed)
    fit_parts(model, photos, states, known, seed)
    return tokens


def fit_parts(model: SummaryLvlm, photos: Photos, states: States, known: WordNet, seed: int) -> None:
    """Fits all parts of the head to the states of the training pictures and to WordNet's texts."""
    model.head.fit_statistics(states.images, states.texts[states.owners >= 0])
    fit_sentences(model.head, SENTENCES, _sentences(model, photos, states, known, seed))
    fit_names(model.head, NAMES, _names(model, photos.training, states, known, seed), seed=seed)
    fit(model.head, with_searches(model, photos.training, states, known), seed=seed, fitted=(SENTENCES, NAMES))


def with_searches(model: SummaryLvlm, photos: Sequence[Photo], states: States, known: WordNet) -> States:
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


def _sentences(model: SummaryLvlm, photos: Photos, states: States, known: WordNet, seed: int) -> Sentences:
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
        words=torch.stack([torch.stack([words(text) for text in each]).mean(0) for each in captions]),
        captions=torch.stack([taught[[place[text] for text in each]].mean(0) for each in captions]),
        images=states.images[rows][:, int(part.positions[0])][:, part.channels],
    )


def _names(model: SummaryLvlm, photos: Sequence[Photo], states: States, known: WordNet, seed: int) -> Names:
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
    return [VIEWS * number + view for number, photo in enumerate(photos) if wanted(photo) for view in range(VIEWS)]
