"""Questions and captions about scenes, against the scenes themselves."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from PIL import Image

from compressor.default_model.data import questions
from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.english import (
    CATEGORY_WORDS,
    NUMBERS,
    names,
    plural,
    with_article,
)
from compressor.default_model.data.scenes import Placed, Scene, compose
from compressor.training.sample import QA
from tests.compressor.default_model.data import drawing


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return drawing.prepared(tmp_path_factory.mktemp("objects"), 120)


def hidden(scene: Scene) -> set[str]:
    """Two fifths of the names."""
    return {name for name in scene.counts if sum(name.encode()) % 5 < 2}


@pytest.fixture(scope="module")
def asked(pool: Objects) -> list[tuple[Scene, QA]]:
    pairs = []
    for seed in range(400):
        rng = random.Random(seed)
        scene = compose(rng, pool)
        for qa in questions.questions(scene, rng, pool, hidden(scene)):
            pairs.append((scene, qa))
    return pairs


def test_the_same_seed_asks_the_same(pool: Objects) -> None:
    scene = compose(random.Random(5), pool)
    first = questions.questions(scene, random.Random(1), pool)
    assert first == questions.questions(scene, random.Random(1), pool)


def test_every_kind_is_asked_in_at_least_ten_wordings(
    asked: list[tuple[Scene, QA]],
) -> None:
    for kind, of_kind in questions.wordings().items():
        assert len(set(of_kind)) >= 10, kind
    assert {qa.kind for _, qa in asked} == {*questions.wordings(), "absent"}


def test_questions_have_no_gaps_and_answers_keep_the_style(
    asked: list[tuple[Scene, QA]],
) -> None:
    for _, qa in asked:
        assert not re.search(r"[{}]|  ", qa.question), qa
        assert qa.question[-1] in "?."
        assert re.fullmatch(r"[A-Z][^.]*\.", qa.answer), qa


@pytest.mark.parametrize("kind", ["is_background", "relation_true"])
def test_yes_and_no_are_balanced(asked: list[tuple[Scene, QA]], kind: str) -> None:
    answers = Counter(qa.answer for _, qa in asked if qa.kind == kind)
    assert set(answers) == {"Yes.", "No."}
    # 3 standard deviations of a fair coin
    assert abs(answers["Yes."] - answers["No."]) < 3 * sum(answers.values()) ** 0.5


def test_of_nouns_that_no_head_names_half_are_there(
    asked: list[tuple[Scene, QA]],
) -> None:
    """Otherwise "no" would be the best guess wherever no token has the name in question."""
    given = [(scene, qa) for scene, qa in asked if qa.kind == "exists"]
    absent = sum(qa.answer == "No." for _, qa in given)
    unnamed = sum(qa.answer == "Yes." and bool(hidden(scene)) for scene, qa in given)
    assert 0.7 < unnamed / absent < 1.4
    assert {qa.answer for scene, qa in given if not hidden(scene)} == {"Yes.", "No."}


def test_existence_is_answered_rightly(asked: list[tuple[Scene, QA]]) -> None:
    forms: dict[str, str] = {}
    for noun in (*names(), *CATEGORY_WORDS.values()):
        forms[with_article(noun)] = noun
        forms[f"any {plural(noun)}"] = noun
    # The longest form first: "an apple core" is not an apple.
    longest_first = sorted(forms, key=len, reverse=True)
    asked_for = re.compile(
        "|".join(rf"\b{re.escape(form)}\b" for form in longest_first)
    )
    for scene, qa in asked:
        if qa.kind != "exists":
            continue
        noun = forms[max(asked_for.findall(qa.question), key=len)]
        there = noun in scene.counts or noun in category_words(scene)
        assert qa.answer == ("Yes." if there else "No."), (scene.counts, qa)


def category_words(scene: Scene) -> set[str]:
    categories = {placed.category for placed in scene.objects}
    words = {
        CATEGORY_WORDS[category] for category in categories & CATEGORY_WORDS.keys()
    }
    if categories & {"animal", "bird", "fish", "insect"}:
        words.add("animal")
    return words


def test_numbers_and_colours_are_answered_rightly(
    asked: list[tuple[Scene, QA]],
) -> None:
    for scene, qa in asked:
        answer = qa.answer.rstrip(".").lower()
        if qa.kind == "count":
            counted = [name for name in scene.counts if plural(name) in qa.question]
            assert answer in {NUMBERS[scene.counts[name]] for name in counted}
        elif qa.kind == "count_all":
            assert answer == NUMBERS[len(scene.objects)]
        elif qa.kind == "background":
            assert answer == scene.background
        elif qa.kind in ("colour", "colour_many"):
            assert answer in {placed.colour for placed in scene.objects}
        elif qa.kind == "naming":
            for name, count in scene.counts.items():
                assert (name if count == 1 else plural(name)) in answer


def test_no_number_is_the_one_to_guess(asked: list[tuple[Scene, QA]]) -> None:
    told = Counter(qa.answer for _, qa in asked if qa.kind == "count")
    assert set(told) == {"One.", "Two.", "Three.", "Four."}
    assert max(told.values()) < 0.45 * sum(told.values())


def _two(one: tuple[float, float], other: tuple[float, float]) -> Scene:
    placed = [
        Placed(name, "fruit", "red", (0, 0, 9, 9), centre)
        for name, centre in (("apple", one), ("pear", other))
    ]
    return Scene(
        Image.new("RGB", (300, 300)),
        "blue",
        tuple(placed),
    )


@pytest.mark.parametrize(
    ("one", "other", "relation"),
    [
        ((0.2, 0.5), (0.8, 0.5), {"to the left of"}),
        ((0.8, 0.5), (0.2, 0.5), {"to the right of"}),
        ((0.5, 0.2), (0.5, 0.8), {"above"}),
        ((0.5, 0.8), (0.5, 0.2), {"below"}),
        ((0.2, 0.2), (0.8, 0.8), {"to the left of", "above"}),
        ((0.5, 0.5), (0.55, 0.55), set()),
        (
            (0.4, 0.1),
            (0.6, 0.9),
            {"above"},
        ),  # a little to the left, but nobody would say so
    ],
)
def test_relations(
    one: tuple[float, float],
    other: tuple[float, float],
    relation: set[str],
) -> None:
    assert set(questions.relations(*_two(one, other).objects)) == relation


def test_sides_are_told_of_the_right_thing(pool: Objects) -> None:
    scene = _two((0.2, 0.5), (0.8, 0.5))
    found = Counter[str]()
    for seed in range(200):
        for qa in questions.questions(scene, random.Random(seed), pool):
            if qa.kind == "side":
                apple_first = qa.question.index("apple") < qa.question.index("pear")
                # Three of the wordings name the other thing first.
                other_first = (
                    re.match(r"(On|To|Compared|Which)", qa.question)
                    and "side of the" in qa.question
                )
                found[qa.answer] += 1
                if not other_first and not qa.question.startswith("Compared"):
                    assert (qa.answer == "Left.") == apple_first, qa
            if qa.kind == "what_beside":
                assert qa.answer == (
                    "An apple." if "left" in qa.question else "A pear."
                ), qa
            if qa.kind == "where_across":
                assert qa.answer == ("Left." if "apple" in qa.question else "Right."), (
                    qa
                )
    assert found["Left."] > 50
    assert found["Right."] > 50


def test_captions(pool: Objects) -> None:
    told = {
        questions.describe(_two((0.2, 0.5), (0.8, 0.5)), random.Random(seed))
        for seed in range(50)
    }
    assert told == {
        "An apple and a pear on a blue background.",
        "An apple to the left of a pear on a blue background.",
        "A pear to the right of an apple on a blue background.",
    }


def test_the_absent_is_never_a_wider_word_for_the_present(pool: Objects) -> None:
    parrot = Placed(
        "parrot",
        "bird",
        "red",
        (0, 0, 9, 9),
        (0.5, 0.5),
    )
    scene = Scene(
        Image.new("RGB", (300, 300)),
        "blue",
        (parrot,),
    )
    for seed in range(300):
        absent = questions.absent_name(
            scene,
            random.Random(seed),
            pool,
        )
        assert absent not in ("bird", "animal", "parrot")


def test_a_changed_caption_is_wrong_in_one_thing(pool: Objects) -> None:
    changes = Counter[str]()
    for seed in range(300):
        rng = random.Random(seed)
        scene = compose(rng, pool)
        pair = questions.changed(scene, rng, pool)
        changes[pair.change] += 1
        assert pair.right != pair.wrong
        if pair.change == "background":
            assert scene.background in pair.right
            assert f"{scene.background} background" not in pair.wrong
        if pair.change == "object":
            gone = [
                name
                for name in scene.counts
                if not re.search(
                    rf"\b({re.escape(name)}|{re.escape(plural(name))})\b",
                    pair.wrong,
                    re.IGNORECASE,
                )
            ]
            assert len(gone) == 1, (scene.counts, pair)
    assert set(changes) == {"background", "colours", "relation", "object", "number"}


def test_swapped_colours_and_turned_relations(pool: Objects) -> None:
    apple = Placed(
        "apple",
        "fruit",
        "red",
        (0, 0, 9, 9),
        (0.5, 0.5),
    )
    pairs = {
        questions.changed(scene, random.Random(seed), pool)
        for scene in (
            _two((0.2, 0.5), (0.8, 0.5)),
            Scene(Image.new("RGB", (300, 300)), "blue", (apple,)),
        )
        for seed in range(40)
    }
    told = {(pair.right, pair.wrong) for pair in pairs}
    assert (
        "A red apple on a blue background.",
        "A blue apple on a red background.",
    ) in told
    assert (
        "An apple to the left of a pear on a blue background.",
        "An apple to the right of a pear on a blue background.",
    ) in told
