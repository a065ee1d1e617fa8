"""What the captions of one photograph say together: who is there, how many, what colour, where.

A fact is kept where captions agree on it and none contradicts it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from compressor.default_model.data.captions import words
from compressor.default_model.data.captions.actions import Action
from compressor.default_model.data.captions.numbers import counts_of, thing_counts
from compressor.default_model.data.captions.parser import Mention, Parse, parse
from compressor.default_model.data.captions.scene import (
    Scene,
    is_outdoors,
    scene_of,
    sport_of,
    time_of,
)
from compressor.default_model.data.captions.words import (
    ANIMALS,
    COLOUR_FAMILIES,
    PEOPLE,
    POSSESSIVES,
)
from compressor.default_model.data.english import plural

_SYNONYMS = {"t-shirt": "shirt", "tee": "shirt", "disk": "disc"}
# Two captions that name one person so contradict each other.
_EXCLUSIVE = {
    "man": {"woman", "boy", "girl"},
    "woman": {"man", "boy", "girl"},
    "boy": {"girl", "man", "woman"},
    "girl": {"boy", "man", "woman"},
}


@dataclass
class Subject:
    """Somebody whom a name means without doubt."""

    name: str  # "dog", "dogs", "man in the red shirt"
    category: str
    is_plural: bool
    votes: int  # captions that speak of them
    actions: list[Action] = field(default_factory=list)
    worn: list[str] = field(default_factory=list)
    held: list[tuple[str, str]] = field(default_factory=list)
    places: list[tuple[str, str]] = field(default_factory=list)

    def add(self, mention: Mention) -> None:
        """What one caption says of them."""
        self.actions += mention.actions
        # "His blue hat" makes no answer.
        for text in mention.worn:
            if text.split()[0] not in POSSESSIVES:
                self.worn.append(text)
        self.held += mention.held
        self.places += mention.places


@dataclass(frozen=True)
class Facts:
    """What the captions of a photograph agree on."""

    parses: tuple[Parse, ...]
    counts: dict[str, int]  # category: a number, SEVERAL or MANY
    thing_counts: dict[str, int]  # "bikes": 2
    subjects: tuple[Subject, ...]  # "the dog"
    described: tuple[Subject, ...]  # "the little dog", each by one caption
    colours: dict[str, tuple[str, ...]]  # "shirt": ("red",)
    scene: Scene | None
    place: str | None  # "on a beach"
    outdoors: bool | None
    sport: str | None
    time: str | None  # "day", "night" or "evening"
    words: frozenset[str]  # of all captions

    @property
    def verbs(self) -> set[str]:
        """The bases of all verbs in any caption."""
        forms = words.verbs()
        return {forms[word].base for word in self.words if word in forms}

    @property
    def has_people(self) -> bool:
        """Whether any caption may speak of a person."""
        others = words.words("crowds") | words.words("other_people")
        agents = [words.agents().get(word) for word in self.words]
        named = any(agent.category in PEOPLE for agent in agents if agent)
        return named or bool(self.words & others)


def facts_of(captions: Sequence[str]) -> Facts:
    """Reads the captions of a photograph."""
    parses = tuple(parse(caption) for caption in captions)
    counts = counts_of(parses)
    found = scene_of(parses)
    scene, place = found or (None, None)
    outdoors = is_outdoors(scene, parses)
    return Facts(
        parses=parses,
        counts=counts,
        thing_counts=thing_counts(parses),
        subjects=tuple(_subjects(parses, counts)),
        described=tuple(_described(parses)),
        colours=_colours(parses, counts),
        scene=scene,
        place=place,
        outdoors=outdoors,
        sport=sport_of(parses),
        time=time_of(parses, scene, outdoors),
        words=frozenset(token for each in parses for token in each.tokens),
    )


def _subjects(parses: Sequence[Parse], counts: dict[str, int]) -> Iterator[Subject]:
    """Those that a noun alone means: the only dog, or dogs that do the same."""
    groups: dict[tuple[str, bool], list[tuple[int, Mention]]] = defaultdict(list)
    for number, each in enumerate(parses):
        for mention in each.mentions:
            groups[mention.category, mention.is_plural].append((number, mention))
    votes = {key: len({number for number, _ in found}) for key, found in groups.items()}
    for (category, is_plural), found in sorted(groups.items()):
        in_one_caption = Counter(number for number, _ in found)
        is_ambiguous = max(in_one_caption.values()) > 1
        if is_ambiguous or (category, not is_plural) in groups:
            continue
        if not is_plural and not _is_the_only_one(category, votes, parses, counts):
            continue
        name = plural(category) if is_plural else category
        subject = Subject(name, category, is_plural, votes[category, is_plural])
        for _, mention in found:
            subject.add(mention)
        yield subject


def _is_the_only_one(
    category: str,
    votes: dict[tuple[str, bool], int],
    parses: Sequence[Parse],
    counts: dict[str, int],
) -> bool:
    if counts.get(category, 1) != 1:
        return False
    # "The person" may be any of several people.
    if category in {"person", "child"} and counts.get(category) != 1:
        return False
    for rival in _EXCLUSIVE.get(category, ()):
        is_outvoted = votes.get((rival, False), 0) >= votes[category, False]
        if is_outvoted and not _are_two(parses, category, rival):
            return False
    return True


def _are_two(parses: Sequence[Parse], first: str, second: str) -> bool:
    """Whether one caption speaks of both."""
    for each in parses:
        if {first, second} <= {mention.category for mention in each.mentions}:
            return True
    return False


def _described(parses: Sequence[Parse]) -> Iterator[Subject]:
    for each in parses:
        in_caption = Counter(mention.category for mention in each.mentions)
        for mention in each.mentions:
            name = _distinctive(mention)
            if name is None or in_caption[mention.category] > 1:
                continue
            subject = Subject(name, mention.category, mention.is_plural, votes=1)
            subject.add(mention)
            yield subject


def _distinctive(mention: Mention) -> str | None:
    """ "little girl", "man in the red shirt", "surfer"; None for a mere "man"."""
    name = mention.description
    worn = [text for text in mention.worn if text.startswith(("a ", "an "))]
    if " " in name or (name != mention.category and not mention.is_plural):
        return name
    return f"{name} in the {worn[0].partition(' ')[2]}" if worn else None


def compatible(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two colourings may be of one thing."""
    left, right = set(first), set(second)
    if left <= right or right <= left:
        return True
    is_plain = len(left) == len(right) == 1
    return is_plain and any(left | right <= family for family in COLOUR_FAMILIES)


def _colours(
    parses: Sequence[Parse], counts: dict[str, int]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for each in parses:
        for head, colours in each.coloured:
            name = _coloured_name(head)
            if name is not None:
                found[name].append(colours)
    agreed: dict[str, tuple[str, ...]] = {}
    for name, colourings in found.items():
        is_clear = all(compatible(*pair) for pair in combinations(colourings, 2))
        # Of two dogs each has its colour.
        if is_clear and (name not in ANIMALS or counts.get(name) == 1):
            votes = Counter(frozenset(colours) for colours in colourings)
            best = max(votes, key=lambda each: (votes[each], len(each), sorted(each)))
            agreed[name] = next(each for each in colourings if set(each) == best)
    return agreed


def _coloured_name(head: str) -> str | None:
    agent = words.agents().get(head)
    if agent is not None:
        return agent.category if agent.category in ANIMALS else None
    name = _SYNONYMS.get(head, head)
    return name if name in words.words("things") else None
