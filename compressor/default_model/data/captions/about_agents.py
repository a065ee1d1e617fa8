"""Questions about those who act: what they do, wear and hold, and where they are."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from compressor.default_model.data.captions import words
from compressor.default_model.data.captions.actions import Action
from compressor.default_model.data.captions.facts import Subject
from compressor.default_model.data.captions.photograph import (
    GENERAL,
    Photograph,
    agreement,
    best_action,
)
from compressor.default_model.data.captions.presence import mass_nouns
from compressor.default_model.data.captions.wordings import ask
from compressor.default_model.data.captions.words import (
    ANIMALS,
    PEOPLE,
    POSSESSIVES,
    gerund,
    table,
)
from compressor.default_model.data.english import plural, with_article
from compressor.training.sample import QA

_MAX_OBJECT_WORDS = 6
_NOTHING = frozenset(
    {"something", "hands", "object", "each other", "an object", "things"}
)
_POSTURES = frozenset({"sit", "stand", "lie", "walk", "run", "play", "swim", "sleep"})
_WHERE = frozenset({"in", "on", "at", "near", "under", "by", "inside", "beside"})


def who(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Who is in the picture?" """
    people = [each for each in photo.facts.subjects if each.category in PEOPLE]
    total = photo.facts.counts.get("person")
    if not people or total is None:
        return
    # "A man" says more than "a person".
    best = max(people, key=lambda each: (each.category not in GENERAL, each.votes))
    named = photo.named(best)
    own = photo.facts.counts.get(best.category, 1)
    if named and own == total:
        yield ask("who", rng, named)
        return
    specific = [
        each for each in people if each.category not in GENERAL and not each.is_plural
    ]
    if total == len(specific) == 2:
        specific.sort(key=lambda each: -each.votes)
        names = [with_article(each.name) for each in specific]
        yield ask("who", rng, " and ".join(names))


def animals(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "What animal is this?" """
    present = [each for each in photo.facts.subjects if each.category in ANIMALS]
    if len(present) != 1 or present[0].votes < 2:
        return
    animal = present[0]
    if animal.is_plural:
        named = photo.numbered(animal.category) or plural(animal.category)
        yield ask("what_animals", rng, named)
    else:
        yield ask("what_animal", rng, with_article(animal.category))


def doing(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "What is the dog doing?" """
    for subject in photo.facts.subjects:
        action = best_action(subject, rng)
        if action:
            yield ask("doing", rng, action.text, **agreement(subject))


def doing_described(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "What is the man in the red shirt doing?" """
    for subject in photo.facts.described:
        if subject.actions:
            action = rng.choice(subject.actions)
            yield ask("doing", rng, action.text, **agreement(subject))


def who_does(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Who is jumping?" and "Who is wearing a red shirt?" """
    agents = {
        mention.category for each in photo.facts.parses for mention in each.mentions
    }
    if len(agents) > 2:
        return
    for subject in photo.facts.subjects:
        named = photo.named(subject) or f"the {subject.name}"
        action = best_action(subject, rng)
        if action and not _is_done_by_others(action, subject, photo):
            asked = rng.choice((action.gerund, action.text))
            if words.verbs()[action.gerund].needs_object:
                asked = action.text
            if len(asked.split()) <= _MAX_OBJECT_WORDS:
                yield ask("who_does", rng, named, g=asked)
        is_alone = photo.facts.counts.get("person") == 1
        if subject.worn and is_alone and subject.category in PEOPLE:
            asked = f"wearing {rng.choice(subject.worn)}"
            yield ask("who_does", rng, named, g=asked)


def _is_done_by_others(action: Action, subject: Subject, photo: Photograph) -> bool:
    for each in photo.facts.parses:
        for mention in each.mentions:
            is_other = mention.category != subject.category
            if is_other and action.verb in {other.verb for other in mention.actions}:
                return True
    return False


def is_doing(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Is the man running?" """
    for subject in photo.facts.subjects:
        action = best_action(subject, rng)
        contrary = _contrary(subject, [each.verb for each in subject.actions], photo)
        if rng.random() < 0.5:
            if action and not words.verbs()[action.gerund].needs_object:
                asked = action.text if rng.random() < 0.4 else action.gerund
                yield ask("is_doing", rng, "Yes", **agreement(subject), g=asked)
        elif contrary:
            asked = gerund(rng.choice(contrary))
            yield ask("is_doing", rng, "No", **agreement(subject), g=asked)


def choice_doing(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Is the dog running or sleeping?" """
    for subject in photo.facts.subjects:
        action = best_action(subject, rng)
        if action is None or words.verbs()[action.gerund].needs_object:
            continue
        contrary = _contrary(subject, [action.verb], photo)
        if contrary:
            pair = [action.gerund, gerund(rng.choice(contrary))]
            rng.shuffle(pair)
            gaps = {"g": pair[0], "h": pair[1]}
            yield ask("choice_doing", rng, action.gerund, **agreement(subject), **gaps)


def _contrary(subject: Subject, own: Sequence[str], photo: Photograph) -> list[str]:
    """Verbs that nobody does who does these."""
    found = []
    for verb, excluded in table("contrary").items():
        may_swim = verb == "swim" and mass_nouns()["water"] & photo.facts.words
        is_for_people = verb in table("of_people").split()
        is_fitting = subject.category in PEOPLE or not is_for_people
        is_open = verb in photo.facts.verbs or may_swim
        if is_fitting and not is_open and set(own) & set(excluded.split()):
            found.append(verb)
    return found


def wearing(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "What is the man wearing?" """
    for subject in photo.facts.subjects:
        if not subject.worn or subject.category not in PEOPLE:
            continue
        garments = [text.split()[-1] for text in subject.worn]
        # What most captions speak of, with its colour where one tells it.
        answer = max(
            subject.worn,
            key=lambda text: (garments.count(text.split()[-1]), len(text), text),
        )
        yield ask("wearing", rng, answer, **agreement(subject))


def holding(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "What is the man holding?", "What does the dog have in its mouth?" """
    for subject in (*photo.facts.subjects, *photo.facts.described):
        held = [each for each in subject.held if _is_telling(each[0])]
        if subject.is_plural or not held:
            continue
        thing, hand = rng.choice(held)
        gaps = agreement(subject)
        carried = {each.object for each in subject.actions if each.verb == "carry"}
        if subject.category in PEOPLE:
            kind = "carrying" if thing in carried else "holding"
            yield ask(kind, rng, thing, **gaps)
        elif hand == "mouth":
            yield ask("in_mouth", rng, thing, s=gaps["s"], n=subject.name)


def _is_telling(thing: str) -> bool:
    spoken = thing.split()
    is_short = len(spoken) <= _MAX_OBJECT_WORDS
    return is_short and spoken[0] not in POSSESSIVES and thing not in _NOTHING


def object_of(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "What is the man riding?", "What is the dog jumping over?" """
    for subject in (*photo.facts.subjects, *photo.facts.described):
        for action in subject.actions:
            asked, thing = _asked_object(action)
            if asked and _is_telling(thing):
                yield ask("object_of", rng, thing, **agreement(subject), g=asked)


def _asked_object(action: Action) -> tuple[str, str]:
    """What to ask for, "riding" or "jumping over", and the object; empty where there is none."""
    if action.object:
        is_asked = action.verb in table("asked_objects").split()
        is_somebody = any(word in words.agents() for word in action.object.split())
        return (
            (action.gerund, action.object) if is_asked and not is_somebody else ("", "")
        )
    if not action.places:
        return "", ""
    preposition, phrase = action.places[0]
    prepositions = table("asked_places").get(action.verb, "")
    is_asked = preposition in prepositions.split()
    return (f"{action.gerund} {preposition}", phrase) if is_asked else ("", "")


def where(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Where is the dog?" """
    for subject in photo.facts.subjects:
        phrases = list(subject.places)
        for action in subject.actions:
            if action.verb in _POSTURES:
                phrases += action.places[:1]
        fitting = []
        for preposition, phrase in phrases:
            is_place = phrase.split()[-1] in words.words("places")
            if preposition in _WHERE and is_place:
                fitting.append(f"{preposition} {phrase}")
        if fitting:
            yield ask("where", rng, rng.choice(fitting), **agreement(subject))
