"""What the captions of one photograph say together: numbers, colours, actions, place, sport.

A fact is kept if captions agree on it and none contradicts it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from compressor.default_model.data import caption_words as lexicon
from compressor.default_model.data.caption_parser import Action, Mention, Parse, parse
from compressor.default_model.data.caption_words import (
    ANIMALS,
    COLOUR_FAMILIES,
    NUMBERS,
    PEOPLE,
)
from compressor.default_model.data.english import plural

CHILDREN = frozenset({"boy", "girl", "child", "baby"})
ADULTS = frozenset({"man", "woman"})
# Number of a plural that nobody counted, and of a crowd.
SEVERAL, MANY = -1, -2
CROWDS = frozenset({"crowd", "audience", "crowds", "parade", "spectators", "onlookers"})
# Words for people that are no agents of the lexicon: a count that misses them would be too low.
OTHER_PEOPLE = frozenset(
    ["others", "group", "team", "family", "couple", "pair", "bystanders", "audience", "crowd", "pedestrians", "passengers", "everyone", "people's", "members", "class", "trio", "duo", "gang", "opponent", "teammate", "partner", "owner", "band", "fans", "companion", "companions", "herders", "competitors", "bikers", "batter", "defender", "defenders", "lifeguard", "santa", "ninja", "another", "figure", "figures", "hand", "arm", "man's", "woman's", "boy's", "girl's", "child's", "person's", "someone's"]
)


# place: (phrase, is it outdoors, words). The first whose words most captions have is the scene.
@dataclass(frozen=True)
class Scene:
    """A kind of place."""

    name: str
    phrase: str
    outdoors: bool | None
    words: frozenset[str]


def _scene(name: str, phrase: str, outdoors: bool | None, words: str) -> Scene:
    return Scene(name, phrase, outdoors, frozenset(words.split()))


SCENES = (
    _scene("beach", "on a beach", True, "beach seashore shore sand shoreline"),
    _scene("ocean", "in the ocean", True, "ocean sea wave waves surf"),
    _scene("pool", "in a swimming pool", None, "pool"),
    _scene("lake", "at a lake", True, "lake pond"),
    _scene("river", "at a river", True, "river creek stream rapids"),
    _scene("snow", "in the snow", True, "snow snowy snow-covered snowbank"),
    _scene("desert", "in a desert", True, "desert dune dunes"),
    _scene(
        "mountain",
        "in the mountains",
        True,
        "mountain mountains mountainside cliff peak",
    ),
    _scene("forest", "in the woods", True, "woods forest wooded jungle"),
    _scene("playground", "on a playground", True, "playground"),
    _scene("park", "in a park", True, "park"),
    _scene("track", "on a race track", True, "racetrack track"),
    _scene(
        "street", "on a street", True, "street road sidewalk city crosswalk streets"
    ),
    _scene("stadium", "in a stadium", True, "stadium"),
    _scene("court", "on a court", None, "court"),
    _scene("gym", "in a gym", False, "gym gymnasium"),
    _scene("rink", "on an ice rink", None, "rink"),
    _scene("stage", "on a stage", None, "stage"),
    _scene("kitchen", "in a kitchen", False, "kitchen"),
    _scene("bathroom", "in a bathroom", False, "bathroom bathtub tub"),
    _scene("bedroom", "on a bed", False, "bed bedroom"),
    _scene("restaurant", "in a restaurant", False, "restaurant cafe"),
    _scene("store", "in a store", False, "store supermarket grocery"),
    _scene(
        "room", "in a room", False, "room couch sofa carpet hallway office classroom"
    ),
    _scene("train", "on a train", False, "subway"),
    _scene("yard", "in a yard", True, "yard backyard lawn"),
    _scene("field", "in a field", True, "field meadow pasture"),
    _scene("grass", "on the grass", True, "grass grassy"),
    _scene("water", "in the water", True, "water"),
    _scene("hill", "on a hill", True, "hill hillside"),
    _scene("trail", "on a path", True, "trail path"),
    _scene("rocks", "on the rocks", True, "rock rocks boulder"),
)
_INDOOR_WORDS = frozenset(
    {"indoor", "indoors", "inside", "gymnasium", "arena", "carpet", "living"}
)
_OUTDOOR_WORDS = frozenset(
    {"outside", "outdoors", "outdoor", "sky", "tree", "trees", "mountain"}
)
SPORTS = {
    "soccer": "soccer", "football": "football", "basketball": "basketball", "tennis": "tennis",
    "baseball": "baseball", "softball": "softball", "hockey": "hockey", "rugby": "rugby",
    "volleyball": "volleyball", "golf": "golf", "cricket": "cricket", "badminton": "badminton",
    "lacrosse": "lacrosse", "karate": "karate", "boxing": "boxing", "wrestling": "wrestling",
    "wrestlers": "wrestling", "gymnast": "gymnastics", "gymnastics": "gymnastics",
    "surfing": "surfing", "surfer": "surfing", "surfs": "surfing", "surfboard": "surfing",
    "skateboarding": "skateboarding", "skateboarder": "skateboarding",
    "skateboard": "skateboarding", "snowboarding": "snowboarding",
    "snowboarder": "snowboarding", "snowboard": "snowboarding", "skiing": "skiing",
    "skier": "skiing", "skiers": "skiing", "skis": "skiing", "sledding": "sledding",
    "motocross": "motocross", "kayak": "kayaking", "kayaking": "kayaking",
    "kayaker": "kayaking", "canoe": "canoeing", "rafting": "rafting",
    "wakeboarding": "wakeboarding", "waterskiing": "waterskiing", "bmx": "BMX riding",
    "rollerblading": "rollerblading", "jockey": "horse racing", "jockeys": "horse racing",
    "rodeo": "rodeo", "hiking": "hiking", "fishing": "fishing", "swimming": "swimming",
    "fencing": "fencing",
}  # fmt: skip
_CLIMBING = re.compile(
    r"\b(rock climb\w*|mountain climb\w*|climbing (?:a|the|up) .*?(?:rock|cliff|wall))"
)
_OTHERS = re.compile(r"\b(another|others?|ones)\b")
_NIGHT = re.compile(r"\b(night|nighttime|at dark|in the dark)\b")
_DUSK = re.compile(r"\b(sunset|dusk|evening)\b")
_DAY = re.compile(
    r"\b(sunny|blue sky|sunlight|daytime|sunshine|bright day|clear day|in the sun)\b"
)
_DAY_SCENES = frozenset({"beach", "snow", "field", "grass", "mountain", "forest", "ocean", "desert",
                         "yard", "park", "playground", "hill"})  # fmt: skip
THINGS = frozenset(
    ["ball", "frisbee", "toy", "car", "truck", "bike", "bicycle", "motorcycle", "boat", "kayak", "canoe", "umbrella", "swing", "slide", "wall", "fence", "rope", "bag", "backpack", "surfboard", "skateboard", "snowboard", "ramp", "building", "flag", "bench", "chair", "couch", "blanket", "bed", "tent", "raft", "balloon", "flower", "leash", "collar", "hoop", "scooter", "wagon", "bucket", "stick", "tube", "pole", "bus", "train", "van", "jeep", "sled", "guitar", "kite", "trampoline", "mat", "table", "door", "towel", "sign", "house", "bottle", "cup", "basket", "racket", "bat", "disc", "harness", "tire", "cart", "stroller", "tricycle", "motorbike", "plane", "helicopter", "rug", "pillow", "tunnel", "scarf", "hat", "helmet", "shirt", "jacket", "coat", "dress", "skirt", "vest", "sweater", "sweatshirt", "hoodie", "suit", "uniform", "outfit", "costume", "swimsuit", "bikini", "wetsuit", "cap", "jersey", "mask", "apron", "robe", "headband", "bandanna", "pants", "shorts", "jeans", "shoes", "boots", "gloves", "trunks", "goggles", "sunglasses", "ribbon", "book", "box"]
)
_SINGULAR = {"t-shirt": "shirt", "tee": "shirt", "balls": "ball", "pant": "pants",
             "grey": "gray", "disk": "disc", "bicycles": "bicycle"}  # fmt: skip
PLURAL_THINGS = frozenset(
    {
        "pants",
        "shorts",
        "jeans",
        "shoes",
        "boots",
        "gloves",
        "trunks",
        "goggles",
        "sunglasses",
    }
)


@dataclass
class Subject:
    """Somebody whom captions agree on, under one name."""

    name: str  # "dog", "man in a red shirt", "dogs"
    category: str
    is_plural: bool
    actions: list[Action] = field(default_factory=list)
    worn: list[str] = field(default_factory=list)
    held: list[tuple[str, str]] = field(default_factory=list)
    places: list[tuple[str, str]] = field(default_factory=list)
    votes: int = 0


@dataclass(frozen=True)
class Facts:
    """What the captions of a photograph agree on."""

    parses: tuple[Parse, ...]
    counts: dict[str, int]  # category: a number, SEVERAL or MANY
    subjects: tuple[Subject, ...]  # those whom "the dog" names without doubt
    described: tuple[Subject, ...]  # "the man in the red shirt"
    colours: dict[str, tuple[str, ...]]  # "shirt": ("red",)
    verbs: frozenset[str]  # the bases of all verbs in any caption
    words: frozenset[str]  # of all captions
    scene: Scene | None
    outdoors: bool | None
    sport: str | None
    time: str | None  # "day", "night", "evening"
    thing_counts: dict[str, int]  # "bikes": 2


def facts(captions: Sequence[str]) -> Facts:
    """Reads the captions of a photograph."""
    parses = tuple(parse(caption) for caption in captions)
    counts = _counts(parses)
    words = frozenset(token for each in parses for token in each.tokens)
    scene = _scene_of(parses)
    outdoors = _outdoors(scene, parses)
    verbs = {lexicon.verbs()[word].base for word in words if word in lexicon.verbs()}
    return Facts(
        parses,
        counts,
        tuple(_subjects(parses, counts)),
        tuple(_described(parses)),
        _colours(parses, counts),
        frozenset(verbs),
        words,
        scene,
        outdoors,
        _sport(parses),
        _time(parses, scene, outdoors),
        _thing_counts(parses),
    )


def _counts(parses: Sequence[Parse]) -> dict[str, int]:
    counts: dict[str, int] = {}
    groups: dict[str, frozenset[str]] = {
        name: frozenset({name}) for name in lexicon_categories()
    }
    groups["child"] = CHILDREN
    groups["person"] = PEOPLE
    people = [_count_in(each, PEOPLE) for each in parses]
    for name, categories in groups.items():
        values = [_count_in(each, categories) for each in parses]
        agreed = _agreed(values)
        if agreed is None:
            continue
        # "A man" is not all when another caption speaks of two people.
        generic = [count for count in people if count is not None and count != 0]
        is_low = (
            name in PEOPLE and agreed == 1 and _conflicting(parses, categories, generic)
        )
        if not is_low:
            counts[name] = agreed
    return counts


def lexicon_categories() -> list[str]:
    """All categories of agents."""
    return sorted(ANIMALS | PEOPLE)


def _conflicting(
    parses: Sequence[Parse], categories: frozenset[str], people: Sequence[int]
) -> bool:
    """Whether some caption speaks of more people than those that name the category do."""
    named = [
        _count_in(each, PEOPLE)
        for each in parses
        if any(mention.category in categories for mention in each.mentions)
    ]
    highest = max((_size(count) for count in people), default=0)
    lowest = min((_size(count) for count in named if count), default=0)
    return highest > lowest


def _size(count: int | None) -> int:
    if count is None:
        return 0
    return {SEVERAL: 3, MANY: 9}.get(count, count)


def _count_in(each: Parse, categories: frozenset[str]) -> int | None:
    """How many of the categories a caption has; 0 for none, None where it cannot be told."""
    chosen = [mention for mention in each.mentions if mention.category in categories]
    tokens = [lexicon.agents().get(token) for token in each.tokens]
    agents = [agent for agent in tokens if agent and agent.category in categories]
    if categories == PEOPLE and set(each.tokens) & CROWDS:
        return MANY
    is_incomplete = len(agents) > len(chosen)
    if categories == PEOPLE and set(each.tokens) & OTHER_PEOPLE:
        is_incomplete = is_incomplete or not any(
            mention.is_plural for mention in chosen
        )
    text = " ".join(each.tokens)
    text = text.replace("each other", "").replace("one another", "")
    if _OTHERS.search(text):
        is_incomplete = True
    if is_incomplete:
        return None
    if not chosen:
        return 0
    plurals = [mention for mention in chosen if mention.is_plural]
    singles = [mention for mention in chosen if not mention.is_plural]
    if plurals and (singles or len(plurals) > 1):
        # "Two children , a boy and a girl": a sum would count them twice.
        is_listing = "," in each.tokens or ":" in each.tokens or "one" in each.tokens
        if is_listing or any(mention.is_definite for mention in chosen):
            return None
    total = 0
    seen: set[str] = set()
    for mention in chosen:
        # "A dog runs as the dog …" speaks of one.
        if mention.is_definite and mention.category in seen:
            continue
        seen.add(mention.category)
        if mention.count is None:
            return SEVERAL
        total += mention.count
    return total


def _agreed(values: Iterable[int | None]) -> int | None:
    said = [value for value in values if value]  # neither None nor 0
    numbers = Counter(value for value in said if value > 0)
    vague = [value for value in said if value < 0]
    if len(numbers) == 1:
        number, votes = numbers.most_common(1)[0]
        if votes < 2 or (number == 1 and vague):
            return None
        return number if number < 10 and MANY not in vague else None
    if numbers:
        return None
    if len(vague) >= 2:
        return MANY if vague.count(MANY) >= 2 else SEVERAL
    return None


_EXCLUSIVE = ({"man", "woman"}, {"boy", "girl"}, {"man", "boy"}, {"woman", "girl"},
              {"man", "girl"}, {"woman", "boy"})  # fmt: skip


def _subjects(parses: Sequence[Parse], counts: dict[str, int]) -> Iterable[Subject]:
    """Those that a noun alone names: there is one dog, or several that do the same."""
    groups: dict[tuple[str, bool], list[tuple[int, Mention]]] = defaultdict(list)
    for number, each in enumerate(parses):
        for mention in each.mentions:
            groups[mention.category, mention.is_plural].append((number, mention))
    captions = {key: {number for number, _ in found} for key, found in groups.items()}
    is_alone = counts.get("person") == 1
    for (category, is_plural), found in sorted(groups.items()):
        per_caption = Counter(number for number, _ in found)
        other_number = (category, not is_plural) in groups
        if max(per_caption.values()) > 1 or other_number:
            continue
        votes = len(captions[category, is_plural])
        if category in PEOPLE and (is_alone or not is_plural):
            rivals = [
                len(captions.get((other, False), ()))
                for pair in _EXCLUSIVE
                if category in pair
                for other in pair - {category}
            ]
            # Captions of one and the same person: the more frequent word.
            separate = any(
                _both(parses, category, other)
                for pair in _EXCLUSIVE
                if category in pair
                for other in pair - {category}
            )
            if rivals and max(rivals) >= votes and not separate:
                continue
        number = counts.get(category)
        if not is_plural and number not in (None, 1):
            continue
        # "The person" may be any of several people.
        if category == "person" and not is_plural and counts.get("person") != 1:
            continue
        if category == "child" and not is_plural and counts.get("child") != 1:
            continue
        subject = Subject(_name(category, is_plural), category, is_plural, votes=votes)
        for _, mention in found:
            subject.actions += mention.actions
            subject.worn += mention.worn
            subject.held += mention.held
            subject.places += mention.places
        yield subject


def _both(parses: Sequence[Parse], first: str, second: str) -> bool:
    for each in parses:
        categories = {mention.category for mention in each.mentions}
        if {first, second} <= categories:
            return True
    return False


def _name(category: str, is_plural: bool) -> str:
    return plural(category) if is_plural else category


def _described(parses: Sequence[Parse]) -> Iterable[Subject]:
    """Those that one caption describes: "the little girl in the red dress"."""
    for each in parses:
        nouns = Counter(mention.category for mention in each.mentions)
        for mention in each.mentions:
            if nouns[mention.category] > 1:
                continue
            name = mention.description
            worn = [text for text in mention.worn if text.startswith(("a ", "an "))]
            words = name.split()
            if len(words) == 1 and worn:
                name = f"{name} in the {worn[0].partition(' ')[2]}"
            elif len(words) == 1:
                continue
            yield Subject(
                name, mention.category, mention.is_plural, list(mention.actions),
                list(mention.worn), list(mention.held), list(mention.places), 1,
            )  # fmt: skip


def compatible(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two colourings may be of one thing."""
    left, right = set(first), set(second)
    if left <= right or right <= left:
        return True
    if len(left) == len(right) == 1:
        return any(left | right <= family for family in COLOUR_FAMILIES)
    return False


def _colours(
    parses: Sequence[Parse], counts: dict[str, int]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    plurals: set[str] = set()
    for each in parses:
        for head, colours in each.coloured:
            agent = lexicon.agents().get(head)
            if agent and agent.category in ANIMALS:
                name = agent.category
                if agent.is_plural:
                    plurals.add(name)
            else:
                name = _SINGULAR.get(head, head)
                if name not in THINGS:
                    continue
            found[name].append(colours)
    agreed: dict[str, tuple[str, ...]] = {}
    for name, colourings in found.items():
        if not all(compatible(*pair) for pair in combinations(colourings, 2)):
            continue
        if name in ANIMALS and (name in plurals or counts.get(name) != 1):
            continue
        # The same colours in another order are the same.
        votes = Counter(frozenset(colours) for colours in colourings)
        best = max(
            votes, key=lambda colours: (votes[colours], len(colours), sorted(colours))
        )
        agreed[name] = next(each for each in colourings if frozenset(each) == best)
    return agreed


def _scene_of(parses: Sequence[Parse]) -> Scene | None:
    votes: Counter[str] = Counter()
    for each in parses:
        nouns = {phrase.split()[-1] for _, phrase in each.places}
        said = nouns | {word for _, phrase in each.places for word in phrase.split()}
        for scene in SCENES:
            if scene.words & said:
                votes[scene.name] += 1
    # An earlier scene says more than a later one.
    for scene in SCENES:
        if votes[scene.name] >= max(2, max(votes.values(), default=0) - 1):
            return scene
    return None


def _outdoors(scene: Scene | None, parses: Sequence[Parse]) -> bool | None:
    words = Counter(token for each in parses for token in set(each.tokens))
    inside = sum(words[word] for word in _INDOOR_WORDS)
    outside = sum(words[word] for word in _OUTDOOR_WORDS)
    if scene is not None and scene.outdoors is not None:
        contradicted = inside if scene.outdoors else outside
        return None if contradicted else scene.outdoors
    if inside and not outside:
        return False if inside >= 2 else None
    if outside and not inside:
        return True
    return None


def _sport(parses: Sequence[Parse]) -> str | None:
    votes: Counter[str] = Counter()
    for each in parses:
        text = " ".join(each.tokens)
        named = {SPORTS[token] for token in each.tokens if token in SPORTS}
        if _CLIMBING.search(text):
            named.add("rock climbing")
        votes.update(named)
    # A swimming pool, a wrestling dog and a football to fetch are no sport.
    weak = {"swimming", "wrestling", "fishing"}
    strong = {sport: count for sport, count in votes.items() if sport not in weak}
    if len(strong) != 1:
        return None
    sport, count = next(iter(strong.items()))
    has_people = any(
        mention.category in PEOPLE for each in parses for mention in each.mentions
    )
    has_animals = any(
        mention.category in ANIMALS - {"horse"}
        for each in parses
        for mention in each.mentions
    )
    return sport if count >= 2 and has_people and not has_animals else None


def _time(
    parses: Sequence[Parse], scene: Scene | None, outdoors: bool | None
) -> str | None:
    text = " ".join(token for each in parses for token in each.tokens)
    if _NIGHT.search(text):
        return None if _DAY.search(text) else "night"
    if _DUSK.search(text):
        return "evening"
    if "dark" in text.split() or "lights" in text.split() or not outdoors:
        return None
    if _DAY.search(text) or (scene and scene.name in _DAY_SCENES):
        return "day"
    return None


def _thing_counts(parses: Sequence[Parse]) -> dict[str, int]:
    """Things that two captions count alike: "bikes": 2."""
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for each in parses:
        found: dict[str, int] = {}
        for place, token in enumerate(each.tokens):
            number = NUMBERS.get(token, 0)
            for behind in each.tokens[place + 1 : place + 4] if number > 1 else ():
                if behind in lexicon.agents() or behind in lexicon.PREPOSITIONS:
                    break
                singular = behind[:-1]
                if behind.endswith("s") and singular in THINGS:
                    found[behind] = number
                    break
        for name, number in found.items():
            votes[name][number] += 1
    return {
        name: next(iter(numbers))
        for name, numbers in votes.items()
        if len(numbers) == 1 and sum(numbers.values()) >= 2
    }
