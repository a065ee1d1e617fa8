"""The lexicon of captions: agents, verbs, colours, clothing, and the words that end a phrase.

Hand-made from the 2,000 most frequent words of Flickr8k's captions. A word that is not here is no
error: the parser drops the clause that it cannot read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from compressor.default_model.data.english import plural


@dataclass(frozen=True)
class Agent:
    """A noun for somebody who acts."""

    noun: str  # singular
    category: str  # "man", "woman", "boy", "girl", "child", "baby", "person", or an animal's name
    is_plural: bool = False


# category: nouns of it. The plural follows from the singular.
_AGENTS = {
    "man": "man guy gentleman male policeman fisherman cowboy father groom businessman",
    "woman": "woman lady female bride mother",
    "boy": "boy brother",
    "girl": "girl cheerleader",
    "child": "child kid toddler",
    "baby": "baby infant",
    "person": "person adult teenager teen player rider skier surfer snowboarder skateboarder "
    "climber hiker cyclist bicyclist biker runner swimmer dancer worker performer musician "
    "referee goalie batter pitcher wrestler gymnast skater athlete spectator clown "
    "photographer guitarist singer racer motorcyclist kayaker diver jockey officer soldier "
    "student friend tourist individual someone human quarterback catcher drummer driver",
    "dog": "dog puppy poodle greyhound retriever terrier collie labrador dalmatian beagle "
    "bulldog doberman husky",
    "cat": "cat kitten",
    "horse": "horse pony",
    "bird": "bird seagull duck pigeon swan goose gull eagle",
    "cow": "cow bull",
    "sheep": "sheep lamb",
    "goat": "goat",
    "camel": "camel",
    "elephant": "elephant",
    "monkey": "monkey",
    "deer": "deer",
    "rabbit": "rabbit bunny",
}  # fmt: skip
ANIMALS = frozenset(
    {
        "dog", "cat", "horse", "bird", "cow", "sheep", "goat", "camel", "elephant", "monkey",
        "deer", "rabbit",
    }
)  # fmt: skip
PEOPLE = frozenset(_AGENTS) - ANIMALS
# Of a group: "a group of men", "two groups of …" are not counted.
COLLECTIVES = {
    "group": None, "crowd": None, "bunch": None, "team": None, "line": None, "pack": None,
    "herd": None, "flock": None, "row": None, "lot": None, "number": None, "variety": None,
    "couple": 2, "pair": 2, "trio": 3, "duo": 2,
}  # fmt: skip
NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6,
}  # fmt: skip
# A plural that nobody counted.
MANY_WORDS = frozenset(
    {"many", "several", "multiple", "some", "numerous", "various", "few"}
)
DETERMINERS = frozenset(
    ["a", "an", "the", "some", "his", "her", "its", "their", "this", "that", "these", "those", "another", "each", "one", "many", "several", "both", "all", "no", "few", "any"]
)
POSSESSIVES = frozenset({"his", "her", "its", "their"})
COLOURS = {
    "black": "black", "white": "white", "brown": "brown", "red": "red", "blue": "blue",
    "green": "green", "yellow": "yellow", "orange": "orange", "pink": "pink", "purple": "purple",
    "gray": "gray", "grey": "gray", "tan": "tan", "golden": "golden", "gold": "gold",
    "silver": "silver", "beige": "beige", "cream": "cream",
}  # fmt: skip
# What one caption calls tan, another calls brown: neither contradicts the other.
COLOUR_FAMILIES = (
    frozenset({"brown", "tan", "golden", "beige", "cream", "gold", "yellow", "orange"}),
    frozenset({"gray", "silver", "black"}),
    frozenset({"white", "cream", "beige"}),
    frozenset({"red", "orange", "pink"}),
    frozenset({"purple", "pink", "blue"}),
    frozenset({"gray", "white"}),
)
ADJECTIVES = frozenset(
    ["small", "big", "large", "little", "young", "old", "older", "elderly", "tall", "short", "long", "huge", "tiny", "fat", "thin", "skinny", "wet", "dry", "muddy", "dirty", "clean", "snowy", "sandy", "rocky", "grassy", "icy", "wooden", "metal", "concrete", "plastic", "stone", "brick", "striped", "plaid", "spotted", "colorful", "bright", "dark", "light", "pale", "blond", "blonde", "bald", "bearded", "shirtless", "barefoot", "furry", "fluffy", "shaggy", "happy", "cute", "smiling", "laughing", "male", "female", "asian", "african", "american", "african-american", "indian", "chinese", "japanese", "professional", "casual", "formal", "empty", "open", "closed", "busy", "crowded", "steep", "deep", "shallow", "high", "low", "wide", "narrow", "snow-covered", "tree-covered", "grass-covered", "paved", "dirt", "rural", "urban", "public", "outdoor", "indoor", "inflatable", "stuffed", "fake", "real", "new", "beautiful", "pretty", "multicolored", "multi-colored", "colored", "floral", "flowered", "checkered", "patterned", "hooded", "long-haired", "short-haired", "long-sleeved", "curly", "heavy", "rough", "calm", "rushing", "murky", "foamy", "frozen", "green-colored", "brightly", "neon", "camouflage", "rainbow", "leafy", "wooded", "lush", "barren", "dusty", "sunny", "cloudy", "clear", "blurry", "tan", "opposing", "opposite", "similar", "identical", "other", "same", "different", "matching", "single", "lone", "full", "half", "strange", "odd", "unusual", "funny", "silly", "elaborate", "fancy", "traditional", "religious", "medieval", "soapy", "giant", "enormous", "massive", "medium", "medium-sized", "large-sized", "small-sized", "aged", "middle-aged", "teenage", "naked", "topless", "tattooed", "injured", "energetic", "playful", "excited", "heavyset", "overweight", "slim", "red-haired", "redheaded", "dark-haired", "brown-haired", "blond-haired", "blonde-haired", "dark-skinned", "light-skinned", "toy", "three-wheeled", "dressed"]
)
# Verbs by their base. "+" needs an object or a place, else the phrase would dangle.
_VERBS = """
run walk jump leap sit stand lie lay+ play swim ride climb hold+ wear+ carry+ catch+ throw+ chase+
pull+ push+ hug+ kiss+ kick+ hit+ bite+ chew+ lick+ sniff+ dig swing slide ski snowboard skateboard
surf skate sled sleep eat drink smoke read write sing dance laugh cry smile talk wave+ point+ look+
watch+ stare+ pose perform race jog sprint hike fish kayak canoe row paddle wade splash dive float
fall fly crawl kneel crouch squat lean+ rest relax bounce flip spin roll tumble balance hang+ land+
fight wrestle box tackle+ swing bat pitch dribble shoot serve toss+ bowl fetch+ retrieve+ follow+
lead+ cross+ pass+ enter+ leave+ climb descend+ ascend+ reach+ touch+ feed+ pet+ wash+ clean+ paint+
draw cook cut+ pour+ blow+ shake+ bark+ yawn beg growl drive cycle bike march parade cheer clap
shout yell scream whisper shop work study camp gather wait celebrate compete exercise stretch train
practice juggle drum strum take+ make+ do+ put+ give+ get+ lift+ raise+ grab+ drag+ pick+ open+
close+ use+ show+ display+ examine+ inspect+ explore+ enjoy+ share+ sell+ buy+ build+ fix+ repair+
shovel+ rake+ sweep+ plant+ spray+ squirt+ trot gallop graze herd+ bound emerge+ return+ approach+
attack+ peek+ hide+ bend+ hop skip stroll wander rollerblade waterski wakeboard parasail windsurf
glide sail raft tube+ grind+ jog traverse+ navigate+ steer+ maneuver+ scale+ rappel dunk converse chat
listen+ type knit sew embrace interact+ stick+ face+ block+ guard+ pounce+ snuggle cuddle drool
pant nibble+ gnaw+ munch+ tug+ swat+ nap doze snowshoe sunbathe lounge push+ skydive somersault
try~ attempt~ prepare~ begin~ start~ struggle~ learn~
"""
_DOUBLED = frozenset(
    ["run", "sit", "swim", "jog", "hit", "cut", "get", "put", "dig", "hug", "pet", "skip", "flip", "grab", "drag", "chat", "bat", "spin", "clap", "hop", "tug", "swat", "nap", "trot", "beg", "drum", "strum"]
)
INTRANSITIVE = frozenset(
    {
        "sit",
        "stand",
        "lie",
        "sleep",
        "smile",
        "laugh",
        "cry",
        "look",
        "stare",
        "run",
        "swim",
        "wait",
    }
)
# Nouns that a caption also uses as verbs of these forms: read as verbs only behind an agent.
NEVER_VERBS = frozenset(
    {"building", "railing", "clothing", "painting", "something", "string"}
)


@dataclass(frozen=True)
class Verb:
    """A verb of the lexicon, met in some form."""

    base: str
    gerund: str
    form: str  # "gerund", "third" or "base"
    needs_object: bool
    needs_infinitive: bool


def gerund(base: str) -> str:
    """ "run" → "running"."""
    if base in {"lie", "tie", "die"}:
        return base[:-2] + "ying"
    if base in _DOUBLED:
        return f"{base}{base[-1]}ing"
    if base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        return base[:-1] + "ing"
    return base + "ing"


@cache
def verbs() -> dict[str, Verb]:
    """Every form of every verb."""
    table: dict[str, Verb] = {}
    for entry in _VERBS.split():
        base = entry.rstrip("+~")
        needs_object, needs_infinitive = entry.endswith("+"), entry.endswith("~")
        ing = gerund(base)
        forms = {"gerund": ing, "third": plural(base), "base": base}
        if base == "do":
            forms["third"] = "does"
        for form, text in forms.items():
            table[text] = Verb(base, ing, form, needs_object, needs_infinitive)
    table["skiies"] = table["skis"]
    # "A dog lays on a bed" means that it lies there.
    for form, text in {"gerund": "laying", "third": "lays", "base": "lay"}.items():
        table[text] = Verb("lie", "lying", form, True, False)
    return table


@cache
def agents() -> dict[str, Agent]:
    """Nouns of agents, singular and plural."""
    table: dict[str, Agent] = {}
    for category, nouns in _AGENTS.items():
        for noun in nouns.split():
            table[noun] = Agent(noun, category)
            many = {"policeman": "policemen", "fisherman": "fishermen",
                    "gentleman": "gentlemen", "goose": "geese",
                    "businessman": "businessmen", "someone": "", "infant": "infants",
                    }.get(noun) or plural(noun)  # fmt: skip
            table.setdefault(many, Agent(noun, category, many != noun))
    table["labs"] = Agent("dog", "dog", True)
    table["shepherd"] = Agent("dog", "dog")
    del table["someones"]
    return table


PREPOSITIONS = frozenset(
    ["in", "on", "at", "with", "over", "through", "into", "by", "of", "to", "from", "near", "across", "along", "behind", "under", "beside", "between", "around", "past", "down", "up", "off", "onto", "inside", "outside", "above", "below", "towards", "toward", "against", "among", "atop", "beneath", "underneath", "alongside", "for", "after", "before", "about", "without", "during", "next", "front", "out", "like", "amid", "amidst", "within"]
)
# Adverbs and particles that may stand behind a verb before its object or place.
PARTICLES = frozenset(
    ["up", "down", "out", "off", "around", "away", "together", "along", "outside", "inside", "outdoors", "indoors", "high", "fast", "forward", "forwards", "backward", "backwards", "back", "upside-down", "sideways", "happily", "quickly", "quietly"]
)
ENDS = frozenset(
    ["while", "whilst", "as", "and", "or", "but", "that", "which", "who", "whose", "where", "when", "because", "is", "are", "was", "were", "has", "have", "had", "be", "being", "been", "so", "then", "than", "if", ",", ".", ";", ":", "!", "?"]
)
PARTICIPLES = frozenset(
    ["covered", "dressed", "filled", "thrown", "surrounded", "attached", "seated", "parked", "decorated", "painted", "made", "lit", "tied", "held", "lined", "crossed", "shown", "seen", "caught", "called", "wrapped", "suspended", "perched", "posed", "gathered", "outstretched", "raised", "crouched", "bent", "stretched", "strapped", "followed", "led", "pulled", "pushed", "chased", "fenced", "laden", "splashed", "soaked", "tethered", "leashed", "harnessed", "labeled", "marked", "shaped"]
)
PRONOUNS = frozenset({"him", "them", "it", "they", "he", "she", "himself", "herself", "itself",
                      "themselves", "what", "there", "others", "both", "each", "all"})  # fmt: skip
ADVERBS = frozenset(
    ["happily", "quickly", "playfully", "just", "also", "currently", "very", "really", "carefully", "slowly", "already", "still", "both", "all", "slightly", "quite"]
)
CLOTHING = frozenset(
    ["shirt", "t-shirt", "tee", "jacket", "coat", "vest", "sweater", "sweatshirt", "hoodie", "dress", "gown", "skirt", "uniform", "suit", "costume", "outfit", "hat", "cap", "beanie", "helmet", "shorts", "pants", "jeans", "swimsuit", "bikini", "wetsuit", "trunks", "shoes", "boots", "sneakers", "sandals", "gloves", "scarf", "glasses", "sunglasses", "goggles", "mask", "apron", "robe", "jersey", "snowsuit", "overalls", "bandanna", "headband", "wig", "tie", "tuxedo", "backpack", "lifejacket", "pajamas", "shirts", "hats", "helmets", "jackets", "coats", "uniforms", "dresses", "costumes", "suits", "outfits", "jerseys", "headscarf", "cape", "tights", "clothes", "clothing", "kilt", "kimono", "parka", "sari", "top", "tutu", "leotard", "necklace", "crown", "veil", "turban", "headphones", "earrings", "diaper", "blouse", "gear", "harness", "jumpsuit", "collar", "muzzle", "leash", "swimwear", "raincoat", "bonnet", "clothing", "sweatpants", "hoodies", "caps", "skirts", "vests", "swimsuits", "bikinis", "attire", "bathrobe", "bow"]
)
PLURAL_CLOTHING = frozenset(
    ["shorts", "pants", "jeans", "trunks", "shoes", "boots", "sneakers", "sandals", "gloves", "glasses", "sunglasses", "goggles", "overalls", "pajamas", "tights", "clothes", "headphones", "earrings", "shirts", "hats", "helmets", "jackets", "coats", "uniforms", "dresses", "costumes", "suits", "outfits", "jerseys", "sweatpants", "hoodies", "caps", "skirts", "vests", "swimsuits", "bikinis"]
)
