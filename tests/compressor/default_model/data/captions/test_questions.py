"""Questions, conversations and queries about captioned photographs."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

import pytest

from compressor.default_model.data.captions import about_agents, about_things
from compressor.default_model.data.captions.conversations import conversations
from compressor.default_model.data.captions.photograph import Photograph
from compressor.default_model.data.captions.presence import Presence
from compressor.default_model.data.captions.queries import queries
from compressor.default_model.data.captions.questions import questions
from compressor.default_model.data.captions.wordings import (
    UNKNOWN,
    UNREADABLE,
    careless,
    wordings,
)
from compressor.training.sample import QA

DOG = Photograph.of(
    [
        "A brown dog runs through the snow with a stick in its mouth .",
        "A dog running in the snow .",
        "The brown dog is running .",
    ]
)
MAN = Photograph.of(
    [
        "A man in a red shirt is riding a bike on a street .",
        "A man in a red shirt rides a bike down a street .",
        "A man is wearing a red shirt .",
        "A man holds a cup .",
    ]
)
PAIR = Photograph.of(["Two girls jump over a fence .", "Two girls are jumping ."])
SPORT = Photograph.of(
    ["A surfer on a wave at sunset .", "A man surfs in the ocean .", "A surfer ."]
)
KITCHEN = Photograph.of(["A woman cooks in a kitchen .", "A woman in a kitchen ."])
PHOTOGRAPHS = (DOG, MAN, PAIR, SPORT, KITCHEN)

Maker = Callable[[Photograph, random.Random], Iterator[QA]]


def answers(make: Maker, photo: Photograph, kind: str) -> set[str]:
    """The answers of a kind over many draws."""
    found = set()
    for seed in range(60):
        for qa in make(photo, random.Random(seed)):
            if qa.kind == kind:
                found.add(qa.answer)
    return found


@pytest.mark.parametrize(
    ("make", "photo", "kind", "expected"),
    [
        (about_agents.doing, DOG, "doing", {"Running through the snow.", "Running in the snow.",
                                            "Running."}),
        (about_agents.doing, PAIR, "doing", {"Jumping over a fence.", "Jumping."}),
        (about_agents.doing_described, MAN, "doing",
         {"Riding a bike on a street.", "Riding a bike down a street."}),
        (about_agents.who, MAN, "who", {"A man."}),
        (about_agents.who, PAIR, "who", {"Two girls."}),
        (about_agents.animals, DOG, "what_animal", {"A dog."}),
        (about_agents.who_does, DOG, "who_does", {"A dog."}),
        (about_agents.is_doing, DOG, "is_doing", {"Yes.", "No."}),
        (about_agents.choice_doing, PAIR, "choice_doing", {"Jumping."}),
        (about_agents.wearing, MAN, "wearing", {"A red shirt."}),
        (about_agents.holding, MAN, "holding", {"A cup."}),
        (about_agents.holding, DOG, "in_mouth", {"A stick."}),
        (about_agents.object_of, MAN, "object_of", {"A bike."}),
        (about_agents.object_of, PAIR, "object_of", {"A fence."}),
        (about_agents.where, DOG, "where", {"In the snow."}),
        (about_things.count, PAIR, "count", {"Two."}),
        (about_things.count, DOG, "count", {"One."}),
        (about_things.count_none, DOG, "count_none", {"None."}),
        (about_things.colour, DOG, "colour", {"Brown."}),
        (about_things.colour, MAN, "colour", {"Red."}),
        (about_things.is_colour, MAN, "is_colour", {"Yes.", "No."}),
        (about_things.choice_colour, DOG, "choice_colour", {"Brown."}),
        (about_things.choice, DOG, "choice", {"A dog."}),
        (about_things.place, MAN, "where_taken", {"On a street."}),
        (about_things.in_or_out, KITCHEN, "inout", {"Indoors.", "Inside."}),
        (about_things.in_or_out, KITCHEN, "indoors", {"Yes."}),
        (about_things.season, DOG, "season", {"Winter."}),
        (about_things.sport, SPORT, "sport", {"Surfing."}),
        (about_things.time, SPORT, "time", {"Evening."}),
        (about_things.time, DOG, "is_night", {"No."}),
        (about_things.what_is_it, DOG, "what_is_it", {"A brown dog.", "A brown dog in the snow."}),
        (about_things.describe_otherwise, PAIR, "brief", {"Two girls are jumping."}),
        (about_things.describe_otherwise, DOG, "title", {"Dog running in the snow.",
                                                         "Brown dog is running."}),
    ],
)  # fmt: skip
def test_answers(make: Maker, photo: Photograph, kind: str, expected: set[str]) -> None:
    found = answers(make, photo, kind)
    assert found
    assert found <= expected


def test_a_description_is_a_caption_or_two() -> None:
    assert answers(about_things.describe, PAIR, "describe") == set(PAIR.captions)
    two = answers(about_things.describe_otherwise, DOG, "describe_two")
    assert two
    for answer in two:
        first, second = (f"{part.strip()}." for part in answer.rstrip(".").split("."))
        assert {first, second} <= set(DOG.captions)


def test_people_are_counted_where_there_are_none() -> None:
    """Or their number would be one whatever is seen."""

    def asked(photo: Photograph) -> list[str]:
        draws = [about_things.count_none(photo, random.Random(n)) for n in range(200)]
        return [qa.question for draw in draws for qa in draw]

    assert len(asked(DOG)) > 60
    assert sum("people" in question for question in asked(DOG)) > 15
    assert not any("people" in question for question in asked(MAN))


def test_an_other_colour_does_not_fit() -> None:
    for seed in range(60):
        for qa in about_things.is_colour(MAN, random.Random(seed)):
            assert (" red" in qa.question.lower()) == (qa.answer == "Yes.")


def asked(seed: int) -> list[list[QA]]:
    presence = Presence([photo.nouns for photo in PHOTOGRAPHS])
    found = []
    for photo in PHOTOGRAPHS:
        found.append(questions(photo, presence, random.Random(seed)))
    return found


def test_the_same_seed_asks_the_same() -> None:
    assert asked(3) == asked(3)
    assert asked(3) != asked(4)


def test_every_question_is_clean_and_every_answer_a_sentence() -> None:
    everything = [qa for seed in range(30) for each in asked(seed) for qa in each]
    for seed in range(30):
        for photo in PHOTOGRAPHS:
            turns = conversations(photo, random.Random(seed))
            everything += [qa for each in turns for qa in each]
    for qa in everything:
        assert re.fullmatch(r"\S+( \S+)*", qa.question), qa
        assert "{" not in qa.question, qa
        assert re.fullmatch(r"[A-Z0-9]\S*( \S+)*\.", qa.answer), qa
        assert ".." not in qa.answer, qa
        assert not re.search(r"\b[Aa] (?!one)[aeio]\w", qa.question), qa
        assert not re.search(r"\b(the|a|an|of|with|and)\.$", qa.answer), qa


def test_as_many_nouns_are_there_as_are_not() -> None:
    existence = [qa for seed in range(60) for each in asked(seed) for qa in each
                 if qa.kind == "exists"]  # fmt: skip
    there = sum(qa.answer == "Yes." for qa in existence)
    # Two questions in the same words are asked once, so the halves may differ a little.
    assert len(existence) > 300
    assert abs(there / len(existence) - 0.5) < 0.03


def test_one_question_in_twenty_has_no_answer() -> None:
    everything = [qa for seed in range(200) for each in asked(seed) for qa in each]
    unknown = sum(qa.answer in {UNKNOWN, UNREADABLE} for qa in everything)
    assert 0.03 < unknown / len(everything) < 0.07
    text = sum(qa.kind == "text" for qa in everything)
    assert 0.015 < text / len(everything) < 0.035


def test_conversations_speak_of_it() -> None:
    later = set()
    for seed in range(40):
        for photo in (DOG, MAN, PAIR):
            for turns in conversations(photo, random.Random(seed)):
                assert 2 <= len(turns) <= 5
                later.update(turn.question for turn in turns[1:])
    assert {
        "What is it doing?",
        "What is he wearing?",
        "What are they doing?",
        "How many?",
    } <= later


def test_queries_are_short_and_fit() -> None:
    found = {query for seed in range(40) for query in queries(DOG, random.Random(seed))}
    assert {"dog", "dogs", "a dog", "brown dog", "dog snow", "dog in the snow"} <= found
    assert {"two girls", "girls jumping"} <= {
        query for seed in range(40) for query in queries(PAIR, random.Random(seed))
    }


def test_every_kind_has_ways_to_ask() -> None:
    for kind, templates in wordings().items():
        assert len(templates) >= 6, kind
        assert all(re.search(r"[?.!]$", template) for template in templates), kind


def test_some_questions_are_typed_carelessly() -> None:
    typed = {careless("What is this?", random.Random(seed)) for seed in range(3000)}
    assert typed == {"What is this?", "What is this", "what is this?", "what is this"}
