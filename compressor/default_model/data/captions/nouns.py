"""Concrete nouns of captions, and which of them may mean the same object."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

# What one caption calls a child, another calls a boy, so "Is there a boy?" has no clear "no" beside
# a child. A line is a group of nouns that may all be said of one object; "word/plural/synonym" are
# forms of one noun. A noun may stand in several groups. The first form is asked for.
_GROUPS = """
man/men/guy/guys/male, person/people/adult/adults/someone/crowd/group/player/players/\
climber/hiker/rider
woman/women/lady/ladies/female, person
boy/boys, child/children/kid/kids/toddler/toddlers, person, man, baby/babies/infant
girl/girls, child, person, woman, baby
dog/dogs/puppy/puppies/greyhound/greyhounds/poodle/retriever/terrier, animal/animals
horse/horses/pony, animal
cat/cats/kitten, animal
bird/birds/seagull/seagulls/duck/ducks/geese, animal
cow/cows/bull, animal
ball/balls/football/basketball/volleyball/soccer/baseball/tennis, toy/toys
frisbee/frisbees/disc, toy
toy, stick/sticks/branch, rope
bicycle/bicycles/bike/bikes/bicyclist/cyclist/bmx, motorcycle/motorcycles/motorbike/motocross, \
vehicle/vehicles
car/cars/van/taxi, vehicle, truck/trucks/suv/jeep
bus/buses, vehicle
train/trains, vehicle
boat/boats/canoe/kayak/kayaks/kayaker/raft/sailboat/ship/rowboat
skateboard/skateboarder/skateboarding/skateboards, surfboard/surfer/surfing/surf/wakeboard, \
snowboard/snowboarder/board
hat/hats/cap/caps/sunhat/beanie, helmet/helmets
shirt/shirts/t-shirt/tee, jacket/jackets/coat/vest, sweater/sweatshirt, dress/gown/skirt, \
uniform/suit/costume/outfit
backpack/backpacks/bag/bags/purse/luggage
glasses, sunglasses/goggles
bench/benches, chair/chairs/seat/seats/couch/sofa
table/tables/desk/counter
tree/trees/forest/woods/wooded/branch
rock/rocks/rocky/boulder/boulders/stone/stones, mountain/mountains/mountainside/cliff/hill/\
hills/hillside/slope
snow/snowy/ski/skis/skier/skiing/snowboarder/sled/ice/snowboard/winter
beach/beaches/sand/sandy/shore/shoreline
fence/fences/railing/gate
swing/swings/swinging, slide/slides/playground
building/buildings/house/houses/skyscraper/city/store/shop/street
bridge/bridges, fountain/fountains, umbrella/umbrellas, tent/tents, \
camera/cameras/photographer/photo/picture
guitar/guitars/guitarist, drum/drums/drummer, flower/flowers, flag/flags, leash/leashes, \
trampoline/trampolines
pool/pools/poolside/swimming
"""
# Not asked for: too general for a plain yes or no, not countable, or said of the photograph itself.
_NOT_ASKED = frozenset(
    {
        "sweater", "snow", "glasses", "sunglasses", "camera", "photo", "stick", "rope", "toy",
        "uniform",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Noun:
    """A noun and what else may be called so."""

    forms: frozenset[str]  # words of captions that speak of it
    # Nouns whose presence is open once this one is mentioned; itself among them.
    compatible: frozenset[str]


def mentioned(caption: str) -> set[str]:
    """The nouns (keys of NOUNS) a caption speaks of."""
    nouns: set[str] = set()
    for word in re.findall(r"[a-z]+(?:-[a-z]+)?", caption.lower()):
        nouns.update(_by_form().get(word, ()))
    return nouns


def _parsed() -> dict[str, Noun]:
    forms: dict[str, set[str]] = {}
    compatible: dict[str, set[str]] = {}
    for line in _GROUPS.strip().splitlines():
        group = [entry.strip().split("/") for entry in line.split(",")]
        asked = {entry[0] for entry in group}
        for entry in group:
            forms.setdefault(entry[0], set()).update(entry)
            compatible.setdefault(entry[0], set()).update(asked)
    return {
        noun: Noun(frozenset(forms[noun]), frozenset(compatible[noun]))
        for noun in forms
    }


NOUNS = _parsed()
ASKED = frozenset(NOUNS) - _NOT_ASKED


@cache
def _by_form() -> dict[str, tuple[str, ...]]:
    table: dict[str, list[str]] = {}
    for key, noun in NOUNS.items():
        for form in noun.forms:
            table.setdefault(form, []).append(key)
    return {form: tuple(keys) for form, keys in table.items()}
