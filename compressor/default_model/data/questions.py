"""Captions and questions about composed scenes, with answers, in many wordings.

Style of every answer: the key word or words first, nothing before them, a full stop behind
("Blue.", "Three.", "Yes.", "An apple.", "Top left."); only descriptions are whole sentences.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from compressor.default_model.data import english
from compressor.default_model.data.colours import COLOURS
from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.english import NUMBERS, counted, plural, with_article
from compressor.default_model.data.scenes import Placed, Scene
from compressor.training.sample import QA

OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}
# Between centres, as a share of the image's side, for an object to be clearly left of or above
# another.
_MIN_GAP = 0.12
# Names so general that another object of their category may well be called by them.
_GENERAL = frozenset(
    {
        "bird", "fish", "flower", "tree", "hat", "dog", "car", "boat", "ship", "house", "book",
        "ball", "box", "bottle", "cake", "shoe", "boot",
    }
)  # fmt: skip
# Asked whether there is "a fruit", a scene with any of these categories allows no clear "no".
_NEAR = {
    "animal": {"animal", "bird", "fish", "insect", "toy"},
    "bird": {"bird"},
    "insect": {"insect", "animal"},
    "fruit": {"fruit", "vegetable", "plant", "food", "drink"},
    "vegetable": {"fruit", "vegetable", "plant", "food"},
    "vehicle": {"vehicle", "toy"},
    "tool": {"tool", "household", "office", "device", "furniture", "clothing", "toy"},
    "instrument": {"instrument", "device", "toy", "tool"},
    "building": {"building", "furniture"},
    "plant": {"plant", "fruit", "vegetable", "nature"},
}


@dataclass(frozen=True)
class CaptionPair:
    """A caption and one that differs from it in a single thing, which makes it wrong."""

    right: str
    wrong: str
    change: str  # "background", "colours", "relation", "object" or "number"


def describe(scene: Scene, rng: random.Random) -> str:
    """A caption: "Three apples and a pear on a blue background.", sometimes with places."""
    subject = listing(scene.counts)
    if len(scene.objects) == 2 and len(scene.counts) == 2:
        first, second = rng.sample(scene.objects, 2)
        clear = list(relations(first, second))
        if clear and rng.random() < 0.6:
            subject = _related(first, rng.choice(clear), second)
    elif len(scene.objects) == 1:
        only = scene.objects[0]
        if only.colour and rng.random() < 0.4 and " of " not in only.name:
            subject = with_article(f"{only.colour} {only.name}")
    return _on(subject, scene.background)


def listing(counts: Mapping[str, int]) -> str:
    """ "an apple, two pears and a cat", in the given order."""
    parts = [counted(count, name) for name, count in counts.items()]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def changed(scene: Scene, rng: random.Random, objects: Objects) -> CaptionPair:
    """A caption and its hard negative.

    One of: another background, colours swapped, the relation turned, an object or a number
    replaced.
    """
    pairs: list[CaptionPair] = []
    for make in (_other_background, _colours, _relation, _object, _number):
        pairs += make(scene, rng, objects)
    return rng.choice(pairs)


def _other_background(
    scene: Scene,
    rng: random.Random,
    _objects: Objects,
) -> Iterator[CaptionPair]:
    other = rng.choice([colour for colour in COLOURS if colour != scene.background])
    subject = listing(scene.counts)
    yield CaptionPair(
        _on(subject, scene.background),
        _on(subject, other),
        "background",
    )


def _colours(
    scene: Scene, _rng: random.Random, _objects: Objects
) -> Iterator[CaptionPair]:
    """ "a red apple on a blue background" against "a blue apple on a red background"."""
    only = scene.objects[0]
    if len(scene.objects) == 1 and only.colour:
        right = with_article(f"{only.colour} {only.name}")
        wrong = with_article(f"{scene.background} {only.name}")
        yield CaptionPair(
            _on(right, scene.background),
            _on(wrong, only.colour),
            "colours",
        )


def _relation(
    scene: Scene, rng: random.Random, _objects: Objects
) -> Iterator[CaptionPair]:
    if len(scene.objects) != 2 or len(scene.counts) != 2:
        return
    first, second = rng.sample(scene.objects, 2)
    for relation in relations(first, second):
        right = _related(first, relation, second)
        wrong = _related(first, OPPOSITE[relation], second)
        yield CaptionPair(
            _on(right, scene.background),
            _on(wrong, scene.background),
            "relation",
        )


def _object(
    scene: Scene, rng: random.Random, objects: Objects
) -> Iterator[CaptionPair]:
    # A category's word would make a caption that is wrong in its kind of noun as well.
    other = absent_name(scene, rng, objects)
    if other is None or other not in objects.by_name:
        return
    replaced = rng.choice(list(scene.counts))
    counts: dict[str, int] = {}
    for name, count in scene.counts.items():
        counts[other if name == replaced else name] = count
    yield _listed_pair(scene, counts, "object")


def _number(
    scene: Scene, rng: random.Random, _objects: Objects
) -> Iterator[CaptionPair]:
    name, count = rng.choice(list(scene.counts.items()))
    wrong = rng.choice([number for number in (1, 2, 3, 4) if number != count])
    yield _listed_pair(scene, {**scene.counts, name: wrong}, "number")


def _listed_pair(
    scene: Scene, wrong_counts: Mapping[str, int], change: str
) -> CaptionPair:
    right = _on(listing(scene.counts), scene.background)
    return CaptionPair(
        right,
        _on(listing(wrong_counts), scene.background),
        change,
    )


def _related(first: Placed, relation: str, second: Placed) -> str:
    return f"{with_article(first.name)} {relation} {with_article(second.name)}"


def relations(subject: Placed, reference: Placed) -> Iterator[str]:
    """What is clearly true of where `subject` is, seen from `reference`."""
    across = subject.centre[0] - reference.centre[0]
    down = subject.centre[1] - reference.centre[1]
    # Mostly beside: further apart in this direction than in the other, so that no reader would say
    # it otherwise.
    if abs(across) >= _MIN_GAP and abs(across) > abs(down) * 0.7:
        yield "to the left of" if across < 0 else "to the right of"
    if abs(down) >= _MIN_GAP and abs(down) > abs(across) * 0.7:
        yield "above" if down < 0 else "below"


def absent_name(scene: Scene, rng: random.Random, objects: Objects) -> str | None:
    """A noun that is clearly not in the scene; None where there is none.

    Half of the time of a category that is in the scene, sometimes a category's word.
    """
    categories = {placed.category for placed in scene.objects}
    if rng.random() < 0.15:
        clear = []
        for category, word in english.CATEGORY_WORDS.items():
            if not _NEAR[category] & categories:
                clear.append(word)
        return rng.choice(clear) if clear else None
    # "apple" is not absent beside an "apple core".
    words = {word for name in scene.counts for word in name.split()}
    pool = objects.names
    if rng.random() < 0.5:
        category = rng.choice(sorted(categories))
        pool = tuple(objects.names_of_category.get(category, ())) or pool
    for _ in range(20):
        name = rng.choice(pool)
        general = name in _GENERAL and objects.by_name[name][0].category in categories
        shared_words = words & set(name.split()) - {"of"}
        if not general and not shared_words:
            return name
    return None


def capitalised(text: str) -> str:
    """With a capital letter first, the rest as it is."""
    return text[:1].upper() + text[1:]


def _on(subject: str, background: str) -> str:
    return f"{capitalised(subject)} on {with_article(background)} background."


PLAIN_NAMING = "What is in the image?"

IMAGE_WORDS = ("image", "picture", "photo")


@cache
def wordings() -> dict[str, list[str]]:
    """Ten or more wordings of each kind of question, the plainest first.

    Gaps: {i} image, picture or photo; {n} a name with its article; {s} a name alone; {p} its
    plural; {o} another name; {d} left, right, above, below; {r} "to the left of" and the like; {c}
    a colour word.
    """
    path = Path(__file__).with_name("wordings.json")
    table: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return table


def worded(
    kind: str,
    rng: random.Random,
    plain: bool = False,
    **words: str,
) -> str:
    """A random wording of a kind of question, or the plainest, with its gaps filled."""
    of_kind = wordings()[kind]
    wording = of_kind[0] if plain else rng.choice(of_kind)
    return wording.format(i=rng.choice(IMAGE_WORDS), **words)


# A category's word also fits these categories; the others only fit themselves.
_HYPERNYMS = {"animal": {"animal", "bird", "insect", "fish"}}


def questions(
    scene: Scene,
    rng: random.Random,
    objects: Objects,
    hidden: Collection[str] = frozenset(),
) -> list[QA]:
    """A question of each kind that has a clear answer here.

    `objects` gives names of absent objects; `hidden` are the names that the projector must not
    choose for this scene.
    """
    asked: list[QA] = []
    for make in KINDS.values():
        asked += make(scene, rng, objects)
    return [*asked, *_exists(scene, rng, objects, hidden)]


def both_ways(scene: Scene, rng: random.Random) -> list[QA]:
    """How two different objects lie to each other, asked from either side, and where each of them
    is, in random order.
    """
    first, second = scene.objects
    # Half of the scenes are asked in the plainest wording, which the model learns sooner.
    plain = rng.random() < 0.5
    asked: list[QA] = []
    # Asked from one side only, the model learns "right" or "left" by heart long before it learns
    # which of the two objects is meant.
    for subject, reference in ((first, second), (second, first)):
        for relation in relations(subject, reference):
            asked.append(_lies(relation, subject, reference, rng, plain))
    for placed in (first, second):
        asked += _placed(placed, rng, plain)
    rng.shuffle(asked)
    return asked


def _naming(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield _qa("naming", rng, listing(scene.counts))


def _background(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield _qa("background", rng, scene.background)


def _is_background(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    true = rng.random() < 0.5
    others = [colour for colour in COLOURS if colour != scene.background]
    yield _qa(
        "is_background",
        rng,
        _yes(true),
        c=scene.background if true else rng.choice(others),
    )


def _count(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    names = list(scene.counts)
    name = rng.choices(names, [scene.counts[each] ** 2 for each in names])[0]
    # Most objects stand alone; were all of them counted, "one" would be the answer to guess.
    if scene.counts[name] > 1 or rng.random() < 0.4:
        yield _qa("count", rng, NUMBERS[scene.counts[name]], p=plural(name))


def _count_all(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield _qa("count_all", rng, NUMBERS[len(scene.objects)])


def _exists(
    scene: Scene,
    rng: random.Random,
    objects: Objects,
    hidden: Collection[str],
) -> Iterator[QA]:
    # Were yes and no even over all questions, "no" would mostly be right where the projector names
    # no such object. So objects of a hidden name are asked for more often, and others less often in
    # vain.
    unnamed = [placed.name for placed in scene.objects if placed.name in hidden]
    true = rng.random() < (0.65 if unnamed else 0.6)
    if true and unnamed and rng.random() < 0.85:
        noun: str | None = rng.choice(unnamed)
    else:
        noun = (_present if true else absent_name)(scene, rng, objects)
    if noun:
        yield _qa(
            "exists",
            rng,
            _yes(true),
            n=with_article(noun),
            p=plural(noun),
        )


def _where(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    placed = _unique(scene, rng)
    if not placed:
        return
    words = [word for word in (placed.down, placed.across) if word]
    if len(words) == 2:
        sides = [word for word in words if word != "middle"]
        answer = " ".join(sides) or "middle"
        yield _qa("where", rng, answer, s=placed.name)
    yield from _placed(placed, rng)


def _placed(placed: Placed, rng: random.Random, plain: bool = False) -> Iterator[QA]:
    if placed.across in ("left", "right"):
        yield _qa("where_across", rng, placed.across, plain, s=placed.name)
    if placed.down in ("top", "bottom"):
        yield _qa("where_down", rng, placed.down, plain, s=placed.name)


def _lies(
    relation: str,
    subject: Placed,
    reference: Placed,
    rng: random.Random,
    plain: bool = False,
) -> QA:
    word = _word(relation)
    kind = "side" if word in ("left", "right") else "height"
    return _qa(kind, rng, word, plain, s=subject.name, o=reference.name)


def _word(relation: str) -> str:
    """ "to the left of" → "left"."""
    return relation.removeprefix("to the ").removesuffix(" of")


def _beside(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    # "The apple" must mean one object.
    single = [name for name, count in scene.counts.items() if count == 1]
    if len(single) < 2:
        return
    first, second = rng.sample(single, 2)
    subject = _of_name(scene, first)
    reference = _of_name(scene, second)
    name = with_article(first)
    for relation in relations(subject, reference):
        lies = _lies(relation, subject, reference, rng)
        yield lies
        # Among more objects another one might lie there as well.
        if len(scene.objects) == 2:
            kind = "what_beside" if lies.kind == "side" else "what_above"
            yield _qa(kind, rng, name, o=second, d=_word(relation))
        true = rng.random() < 0.5
        claimed = relation if true else OPPOSITE[relation]
        yield _qa(
            "relation_true",
            rng,
            _yes(true),
            s=first,
            o=second,
            r=claimed,
            n=name,
        )


def _of_name(scene: Scene, name: str) -> Placed:
    return next(placed for placed in scene.objects if placed.name == name)


def _colour(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    # Objects of one name may differ in colour, or have none that is clear: then it is not asked.
    name = rng.choice(list(scene.counts))
    colours = {placed.colour for placed in scene.objects if placed.name == name}
    colour = colours.pop()
    if colour and not colours:
        kind = "colour" if scene.counts[name] == 1 else "colour_many"
        yield _qa(kind, rng, colour, s=name, p=plural(name))


def _absent(scene: Scene, rng: random.Random, objects: Objects) -> Iterator[QA]:
    """Questions that rest on a wrong assumption."""
    name = absent_name(scene, rng, objects)
    if not name or name in english.CATEGORY_WORDS.values():
        return
    # The model must learn to contradict, but rarely, or it contradicts everything.
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
    fitting = []
    for category, word in english.CATEGORY_WORDS.items():
        if placed.category in _HYPERNYMS.get(category, {category}):
            fitting.append(word)
    return rng.choice(fitting) if fitting and rng.random() < 0.15 else placed.name


def _unique(scene: Scene, rng: random.Random) -> Placed | None:
    """An object that is the only one of its name."""
    single = [placed for placed in scene.objects if scene.counts[placed.name] == 1]
    return rng.choice(single) if single else None


def _qa(
    kind: str,
    rng: random.Random,
    answer: str,
    plain: bool = False,
    **words: str,
) -> QA:
    return QA(
        worded(kind, rng, plain, **words),
        capitalised(answer) + ".",
        kind,
    )


def _yes(true: bool) -> str:
    return "yes" if true else "no"
