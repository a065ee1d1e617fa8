"""Questions about several photographs together, answered from the captions of each.

Their order is the one in which the photographs are shown: "the second picture".
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from compressor.default_model.data.captions import about_agents, about_things
from compressor.default_model.data.captions.nouns import ASKED
from compressor.default_model.data.captions.photograph import Photograph
from compressor.default_model.data.captions.wordings import ask, careless
from compressor.default_model.data.english import NUMBERS, plural, with_article
from compressor.training.sample import QA

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
MOST_PHOTOGRAPHS = len(_ORDINALS)
# What can be asked of a subject that only one of the photographs has.
_ABOUT_ONE = (
    about_agents.doing,
    about_agents.is_doing,
    about_agents.wearing,
    about_agents.holding,
    about_agents.object_of,
    about_agents.where,
    about_things.colour,
)
_MOST_ABOUT_ONE = 3


def questions(photos: Sequence[Photograph], rng: random.Random) -> list[QA]:
    """About eight independent questions about two to MOST_PHOTOGRAPHS photographs."""
    asked = [*_existence(photos, rng), *_which(photos, rng), *_each(photos, rng)]
    about_one = [qa for number in range(len(photos)) for qa in _of(number, photos, rng)]
    asked += rng.sample(about_one, min(_MOST_ABOUT_ONE, len(about_one)))
    unique = {qa.question: qa for qa in asked}
    return [
        QA(careless(qa.question, rng), qa.answer, qa.kind) for qa in unique.values()
    ]


def _existence(photos: Sequence[Photograph], rng: random.Random) -> Iterator[QA]:
    """ "Is there a dog in any of the pictures?", as often in vain as not."""
    present = sorted({noun for photo in photos for noun in photo.nouns.present & ASKED})
    absent = sorted(ASKED.intersection(*(photo.nouns.absent for photo in photos)))
    if present and absent:
        for noun, answer in ((rng.choice(present), "Yes"), (rng.choice(absent), "No")):
            gaps = {"a": with_article(noun), "p": plural(noun)}
            yield ask("several_exists", rng, answer, **gaps)


def _which(photos: Sequence[Photograph], rng: random.Random) -> Iterator[QA]:
    """ "Which picture shows a dog?", "How many of the pictures show a dog?" """
    known = []
    for noun in sorted(ASKED):
        shown = [noun in photo.nouns.present for photo in photos]
        hidden = [noun in photo.nouns.absent for photo in photos]
        # Said of each photograph for sure, one way or the other.
        if any(shown) and all(map(max, shown, hidden)):
            known.append((noun, shown))
    if not known:
        return
    noun, shown = rng.choice(known)
    number = NUMBERS[sum(shown)]
    yield ask("several_count", rng, number, a=with_article(noun))
    alone = [(noun, shown) for noun, shown in known if sum(shown) == 1]
    if alone:
        noun, shown = rng.choice(alone)
        place = f"the {_ORDINALS[shown.index(True)]} one"
        yield ask("several_which", rng, place, a=with_article(noun))


def _each(photos: Sequence[Photograph], rng: random.Random) -> Iterator[QA]:
    """ "Describe the second picture.", "What is in the first picture?" """
    described, named = rng.sample(range(len(photos)), 2)
    if photos[described].captions:
        caption = rng.choice(photos[described].captions)
        yield ask("several_describe", rng, caption, o=_ORDINALS[described])
    subject = photos[named].main_subject
    answer = photos[named].coloured(subject) if subject else None
    if answer:
        yield ask("several_what", rng, answer, o=_ORDINALS[named])


def _of(number: int, photos: Sequence[Photograph], rng: random.Random) -> Iterator[QA]:
    """ "What is the dog doing?" where no other photograph has a dog."""
    photo = photos[number]
    others = [other for place, other in enumerate(photos) if place != number]
    for subject in photo.facts.subjects:
        if not all(subject.category in other.nouns.absent for other in others):
            continue
        colours = photo.facts.colours
        own = {name: colours[name] for name in colours if name == subject.category}
        facts = replace(photo.facts, subjects=(subject,), described=(), colours=own)
        alone = replace(photo, facts=facts)
        for make in _ABOUT_ONE:
            for qa in make(alone, rng):
                yield QA(qa.question, qa.answer, f"several_{qa.kind}")
