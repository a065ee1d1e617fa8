"""TODO."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import pytest
from PIL import Image

from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.mixture import ANSWERED_BY_NAMES, Mixture
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


def essence(sample: Sample) -> tuple[object, ...]:
    return sample.image.tobytes(), sample.questions, sample.caption, sample.source


def test_the_same_seed_gives_the_same_stream_and_another_one_another(
    photos: Photos, pool: Objects
) -> None:
    one, other, different = (
        list(map(essence, islice(Mixture(photos, pool, seed), 30))) for seed in (1, 1, 2)
    )
    assert one == other
    assert one != different


def test_a_stream_taken_up_again_goes_on_exactly(photos: Photos, pool: Objects) -> None:
    whole = list(map(essence, islice(Mixture(photos, pool, 3), 50)))
    first = Mixture(photos, pool, 3)
    assert list(map(essence, islice(first, 23))) == whole[:23]
    state = json.loads(json.dumps(first.state_dict()))
    second = Mixture(photos, pool, 3)
    second.load_state_dict(state)
    assert list(map(essence, islice(second, 27))) == whole[23:]


def test_a_position_of_another_stream_is_refused(photos: Photos, pool: Objects) -> None:
    state = Mixture(photos, pool, 3).state_dict()
    with pytest.raises(DataInvalid, match="another seed"):
        Mixture(photos, pool, 4).load_state_dict(state)
    with pytest.raises(DataInvalid, match="other weights"):
        Mixture(photos, pool, 3, {"scenes": 1.0}).load_state_dict(state)


def test_sources_follow_their_weights_and_each_photograph_comes_once_an_epoch(
    photos: Photos, pool: Objects
) -> None:
    samples = list(islice(Mixture(photos, pool, 5, {"labels": 0.5, "captions": 0.5}), 200))
    by_source = Counter(sample.source for sample in samples)
    assert 70 < by_source["labels"] < 130
    labelled = [sample.image.getpixel((0, 0)) for sample in samples if sample.source == "labels"]
    assert set(Counter(labelled[:6]).values()) == {1}
    assert set(Counter(labelled[6:12]).values()) == {1}
    assert labelled[:6] != labelled[6:12]


def test_every_sample_can_be_learnt_from(photos: Photos, pool: Objects) -> None:
    for sample in islice(Mixture(photos, pool, 6), 60):
        assert sample.image.mode == "RGB"
        assert sample.questions
        assert sample.caption.strip()
        if sample.source == "scenes":
            assert len(sample.questions) == len(set(sample.questions)) == 3


def test_some_names_of_scenes_are_hidden_and_the_same_again(photos: Photos, pool: Objects) -> None:
    first, again = (list(islice(Mixture(photos, pool, 9, {"scenes": 1.0}), 80)) for _ in range(2))
    assert [sample.hidden_names for sample in first] == [sample.hidden_names for sample in again]
    names = [set(sample.origin.counts) for sample in first if isinstance(sample.origin, Scene)]
    assert all(sample.hidden_names <= there for sample, there in zip(first, names, strict=True))
    share = sum(len(sample.hidden_names) for sample in first) / sum(map(len, names))
    assert 0.45 < share < 0.75
    kinds = [{qa.kind for qa in sample.questions} for sample in first]
    asked_names = [bool(asked & ANSWERED_BY_NAMES) for asked in kinds]
    assert not any(
        asked and sample.hidden_names for asked, sample in zip(asked_names, first, strict=True)
    )
    assert any(asked_names)


def test_relations_are_asked_from_either_side(photos: Photos, pool: Objects) -> None:
    kinds: Counter[str] = Counter()
    told: set[tuple[str, ...]] = set()
    for sample in islice(Mixture(photos, pool, 8, {"scenes": 1.0}, 7, relation_share=1.0), 40):
        assert isinstance(sample.origin, Scene)
        assert len(sample.origin.counts) == len(sample.origin.objects) == 2
        kinds.update(qa.kind for qa in sample.questions)
        sides = sorted(qa.answer for qa in sample.questions if qa.kind == "side")
        told.add(tuple(sides))
    assert not kinds.keys() & {"count", "count_all"}
    assert kinds["side"] > 30
    assert kinds["height"] > 30
    assert kinds["where_across"] > 20
    assert ("Left.", "Right.") in told
    assert ("Left.", "Left.") not in told
    assert ("Right.", "Right.") not in told


def test_held_out_names_and_classes_never_come(photos: Photos, pool: Objects) -> None:
    banned = {*pool.held_out().names, "alarm clock"}
    assert "alarm clock" in pool.names
    answers = [
        qa.answer.lower()
        for sample in islice(Mixture(photos, pool, 7, {"scenes": 1.0}), 400)
        for qa in sample.questions
        if qa.kind == "naming"
    ]
    assert len(answers) > 30
    for answer in answers:
        told = answer.rstrip(".").replace(" and ", ", ").split(", ")
        assert not {noun.removeprefix("an ").removeprefix("a ") for noun in told} & banned


def test_a_source_without_data_is_refused(photos: Photos, pool: Objects) -> None:
    with pytest.raises(DataInvalid, match="no training data for 'labels'"):
        Mixture(Photos((), ()), pool, 1)
    with pytest.raises(DataInvalid, match="unknown source 'films'"):
        Mixture(photos, pool, 1, {"films": 1.0})
