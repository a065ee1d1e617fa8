"""The stream of training samples: deterministic, resumable, and without held-out names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import islice

import pytest
from PIL import Image

from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.mixture import (
    ANSWERED_BY_NAMES,
    Mixture,
    MixtureSample,
)
from compressor.default_model.data.photos import Photo, Photos
from compressor.default_model.data.scenes import Scene
from compressor.errors import DataInvalid
from compressor.training.sample import Sample
from tests.compressor.default_model.data import drawing


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return drawing.prepared(tmp_path_factory.mktemp("objects"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    folder = tmp_path_factory.mktemp("photos")
    training, held_out = [], []
    for number in range(12):
        path = folder / f"{number}.png"
        Image.new("RGB", (20, 20), (number * 20, 0, 0)).save(path)
        training.append(
            Photo(path, f"thing{number}", ())
            if number % 2
            else Photo(path, None, ("A dog", "A man runs"))
        )
    held_out.append(Photo(folder / "0.png", "Alarm clock", ()))
    return Photos(tuple(training), tuple(held_out))


def contents(samples: Iterable[Sample]) -> list[tuple[object, ...]]:
    return [
        (sample.image.tobytes(), sample.questions, sample.caption, sample.source)
        for sample in samples
    ]


def stream(
    photos: Photos,
    pool: Objects,
    seed: int,
    count: int,
) -> list[tuple[object, ...]]:
    return contents(islice(Mixture(photos, pool, seed), count))


def test_the_seed_decides_the_stream(photos: Photos, pool: Objects) -> None:
    first = stream(photos, pool, 1, 30)
    assert first == stream(photos, pool, 1, 30)
    assert first != stream(photos, pool, 2, 30)


def test_a_resumed_stream_goes_on_exactly(photos: Photos, pool: Objects) -> None:
    whole = stream(photos, pool, 3, 50)
    interrupted = Mixture(photos, pool, 3)
    assert contents(islice(interrupted, 23)) == whole[:23]
    state = json.loads(json.dumps(interrupted.state_dict()))
    resumed = Mixture(photos, pool, 3)
    resumed.load_state_dict(state)
    assert contents(islice(resumed, 27)) == whole[23:]


def test_a_position_of_another_stream_is_refused(photos: Photos, pool: Objects) -> None:
    state = Mixture(photos, pool, 3).state_dict()
    with pytest.raises(DataInvalid, match="another seed"):
        Mixture(photos, pool, 4).load_state_dict(state)
    with pytest.raises(DataInvalid, match="other weights"):
        Mixture(photos, pool, 3, {"scenes": 1.0}).load_state_dict(state)


def test_sources_follow_their_weights_and_a_photograph_comes_once_an_epoch(
    photos: Photos, pool: Objects
) -> None:
    weights = {"labels": 0.5, "captions": 0.5}
    labelled = []
    for sample in islice(Mixture(photos, pool, 5, weights), 200):
        if sample.source == "labels":
            labelled.append(sample.image.getpixel((0, 0)))
    assert 70 < len(labelled) < 130
    first_epoch, second_epoch = labelled[:6], labelled[6:12]
    assert len(set(first_epoch)) == len(set(second_epoch)) == 6
    assert first_epoch != second_epoch


def test_every_sample_can_be_learnt_from(photos: Photos, pool: Objects) -> None:
    for sample in islice(Mixture(photos, pool, 6), 60):
        assert sample.image.mode == "RGB"
        assert sample.questions
        assert sample.caption.strip()
        if sample.source == "scenes":
            assert len(sample.questions) == len(set(sample.questions)) == 3


def scene_samples(
    photos: Photos,
    pool: Objects,
    seed: int,
    count: int,
) -> list[MixtureSample]:
    samples = []
    for sample in islice(Mixture(photos, pool, seed, {"scenes": 1.0}), count):
        assert isinstance(sample, MixtureSample)
        samples.append(sample)
    return samples


def test_some_names_of_scenes_are_hidden(photos: Photos, pool: Objects) -> None:
    hidden, names = 0, 0
    named_in_answers = []
    for sample in scene_samples(photos, pool, 9, 80):
        assert isinstance(sample.origin, Scene)
        assert sample.hidden_names <= sample.origin.counts.keys()
        hidden += len(sample.hidden_names)
        names += len(sample.origin.counts)
        kinds = {qa.kind for qa in sample.questions}
        if kinds & ANSWERED_BY_NAMES:
            named_in_answers.append(sample)
    assert 0.45 < hidden / names < 0.75
    assert named_in_answers
    assert not any(sample.hidden_names for sample in named_in_answers)


def test_the_seed_decides_which_names_are_hidden(photos: Photos, pool: Objects) -> None:
    first = [sample.hidden_names for sample in scene_samples(photos, pool, 9, 20)]
    assert first == [
        sample.hidden_names for sample in scene_samples(photos, pool, 9, 20)
    ]


def test_relations_are_asked_from_either_side(photos: Photos, pool: Objects) -> None:
    kinds: Counter[str] = Counter()
    sides: set[tuple[str, ...]] = set()
    mixture = Mixture(
        photos,
        pool,
        8,
        {"scenes": 1.0},
        7,
        relation_share=1.0,
    )
    for sample in islice(mixture, 40):
        assert isinstance(sample.origin, Scene)
        assert len(sample.origin.counts) == len(sample.origin.objects) == 2
        kinds.update(qa.kind for qa in sample.questions)
        answers = sorted(qa.answer for qa in sample.questions if qa.kind == "side")
        sides.add(tuple(answers))
    assert not kinds.keys() & {"count", "count_all"}
    assert kinds["side"] > 30
    assert kinds["height"] > 30
    assert kinds["where_across"] > 20
    assert ("Left.", "Right.") in sides
    assert ("Left.", "Left.") not in sides
    assert ("Right.", "Right.") not in sides


def test_held_out_names_and_classes_never_come(photos: Photos, pool: Objects) -> None:
    banned = {*pool.held_out().names, "alarm clock"}
    assert "alarm clock" in pool.names
    answers = []
    for sample in islice(Mixture(photos, pool, 7, {"scenes": 1.0}), 400):
        answers += [qa.answer.lower() for qa in sample.questions if qa.kind == "naming"]
    assert len(answers) > 30
    for answer in answers:
        nouns = answer.rstrip(".").replace(" and ", ", ").split(", ")
        names = {noun.removeprefix("an ").removeprefix("a ") for noun in nouns}
        assert not names & banned


def test_a_source_without_data_is_refused(photos: Photos, pool: Objects) -> None:
    with pytest.raises(DataInvalid, match="no training data for 'labels'"):
        Mixture(Photos((), ()), pool, 1)
    with pytest.raises(DataInvalid, match="unknown source 'films'"):
        Mixture(photos, pool, 1, {"films": 1.0})
