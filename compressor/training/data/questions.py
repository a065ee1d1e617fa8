"""Questions about composed scenes with their answers, in many wordings.

Knows nothing of pixels. Style of every answer: the key word or words first, nothing before them, a full stop behind
("Blue.", "Three.", "Yes.", "An apple.", "Top left."); only descriptions are whole sentences.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from compressor.training.data import vocabulary
from compressor.training.data.captions import OPPOSITE, absent_name, capitalised, describe, listing, relations
from compressor.training.data.colours import COLOURS
from compressor.training.data.objects import Objects
from compressor.training.data.scenes import Placed, Scene
from compressor.training.data.vocabulary import NUMBERS, plural, with_article
from compressor.training.data.wordings import worded


@dataclass(frozen=True)
class QA:
    """A question and its answer."""

    question: str
    answer: str
    kind: str  # a key of KINDS, or of `photos`


_HYPERNYMS = {"animal": {"animal", "bird", "insect", "fish"}}  # "bird" is an animal too; else the category itself


def questions(scene: Scene, rng: random.Random, objects: Objects, hidden: Collection[str] = frozenset()) -> list[QA]:
    """A question of each kind that has a clear answer here; `objects` gives names of things that are absent.

    `hidden` are the names that the projector is not to know here.
    """
    found = [qa for make in KINDS.values() for qa in make(scene, rng, objects)]
    return [*found, *_exists(scene, rng, objects, hidden)]


def both_ways(scene: Scene, rng: random.Random) -> list[QA]:
    """How two different things lie to one another, asked from either side, and where each of them is, in random order.

    Asked one way only, "right" or "left" is learned by heart long before which of the two things is meant. Half of the
    scenes are asked in the plainest wording, which is learned from sooner.
    """
    one, other = scene.objects
    plain = rng.random() < 0.5
    found = [
        _lies(relation, *pair, rng, plain) for pair in ((one, other), (other, one)) for relation in relations(*pair)
    ]
    for placed in (one, other):
        found += _placed(placed, rng, plain)
    rng.shuffle(found)
    return found


def _naming(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield _qa("naming", rng, listing(scene.counts))


def _background(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield _qa("background", rng, scene.background)


def _is_background(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    true = rng.random() < 0.5
    others = [colour for colour in COLOURS if colour != scene.background]
    yield _qa("is_background", rng, _yes(true), c=scene.background if true else rng.choice(others))


def _count(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    names = list(scene.counts)
    name = rng.choices(names, [scene.counts[each] ** 2 for each in names])[0]
    # Most things stand alone; were all of them counted, "one" would be the answer to guess.
    if scene.counts[name] > 1 or rng.random() < 0.4:
        yield _qa("count", rng, NUMBERS[scene.counts[name]], p=plural(name))


def _count_all(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield _qa("count_all", rng, NUMBERS[len(scene.objects)])


def _exists(scene: Scene, rng: random.Random, objects: Objects, hidden: Collection[str]) -> Iterator[QA]:
    # Were yes and no even over all questions, "no" would mostly be right where nothing seen bears the name. So things
    # of a hidden name are asked for more often, and others less often in vain.
    unnamed = [placed.name for placed in scene.objects if placed.name in hidden]
    true = rng.random() < (0.65 if unnamed else 0.6)
    if true and unnamed and rng.random() < 0.85:
        noun: str | None = rng.choice(unnamed)
    else:
        noun = (_present if true else absent_name)(scene, rng, objects)
    if noun:
        yield _qa("exists", rng, _yes(true), n=with_article(noun), p=plural(noun))


def _where(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    placed = _unique(scene, rng)
    if not placed:
        return
    words = [word for word in (placed.down, placed.across) if word]
    if len(words) == 2:
        answer = "middle" if set(words) == {"middle"} else " ".join(word for word in words if word != "middle")
        yield _qa("where", rng, answer, s=placed.name)
    yield from _placed(placed, rng)


def _placed(placed: Placed, rng: random.Random, plain: bool = False) -> Iterator[QA]:
    if placed.across in ("left", "right"):
        yield _qa("where_across", rng, placed.across, plain, s=placed.name)
    if placed.down in ("top", "bottom"):
        yield _qa("where_down", rng, placed.down, plain, s=placed.name)


def _lies(relation: str, one: Placed, other: Placed, rng: random.Random, plain: bool = False) -> QA:
    word = _word(relation)
    return _qa("side" if word in ("left", "right") else "height", rng, word, plain, s=one.name, o=other.name)


def _word(relation: str) -> str:
    """ "to the left of" → "left"."""
    return relation.removeprefix("to the ").removesuffix(" of")


def _beside(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    names = [name for name, count in scene.counts.items() if count == 1]
    if len(names) < 2:
        return
    first, second = rng.sample(names, 2)
    one, other = (next(placed for placed in scene.objects if placed.name == name) for name in (first, second))
    for relation in relations(one, other):
        lies = _lies(relation, one, other, rng)
        yield lies
        if len(scene.objects) == 2:
            kind = "what_beside" if lies.kind == "side" else "what_above"
            yield _qa(kind, rng, with_article(one.name), o=other.name, d=_word(relation))
        true = rng.random() < 0.5
        claimed = relation if true else OPPOSITE[relation]
        yield _qa("relation_true", rng, _yes(true), s=one.name, o=other.name, r=claimed, n=with_article(one.name))


def _colour(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    name = rng.choice(list(scene.counts))
    found = {placed.colour for placed in scene.objects if placed.name == name}
    colour = found.pop()
    if colour and not found:
        kind = "colour" if scene.counts[name] == 1 else "colour_many"
        yield _qa(kind, rng, colour, s=name, p=plural(name))


def _absent(scene: Scene, rng: random.Random, objects: Objects) -> Iterator[QA]:
    """Questions that rest on a wrong assumption."""
    name = absent_name(scene, rng, objects)
    if not name or name in vocabulary.CATEGORY_WORDS.values():
        return
    if rng.random() < 0.5:
        yield QA(worded("count", rng, p=plural(name)), "Zero.", "absent")
    else:
        question = worded(rng.choice(("colour", "where")), rng, s=name)
        yield QA(question, f"There is no {name}.", "absent")


def _caption(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield QA(worded("caption", rng), describe(scene, rng), "caption")


KINDS = {
    "naming": _naming,
    "background": _background,
    "is_background": _is_background,
    "count": _count,
    "count_all": _count_all,
    "where": _where,
    "beside": _beside,
    "colour": _colour,
    "absent": _absent,
    "caption": _caption,
}


def _present(scene: Scene, rng: random.Random, _objects: Objects) -> str:
    placed = rng.choice(scene.objects)
    fitting = [word for category, word in vocabulary.CATEGORY_WORDS.items()
               if placed.category in _HYPERNYMS.get(category, {category})]  # fmt: skip
    return rng.choice(fitting) if fitting and rng.random() < 0.15 else placed.name


def _unique(scene: Scene, rng: random.Random) -> Placed | None:
    """An object that is the only one of its name."""
    single = [placed for placed in scene.objects if scene.counts[placed.name] == 1]
    return rng.choice(single) if single else None


def _qa(kind: str, rng: random.Random, answer: str, plain: bool = False, **words: str) -> QA:
    return QA(worded(kind, rng, plain, **words), capitalised(answer) + ".", kind)


def _yes(true: bool) -> str:
    return "yes" if true else "no"
