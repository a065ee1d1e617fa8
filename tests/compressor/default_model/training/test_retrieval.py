"""Pictures and texts whose states the retrieval head is fitted on."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from compressor.default_model.data import cutouts as cutouts
from compressor.default_model.data.photos import Photo
from compressor.default_model.data.texts import Noun, WordNet
from compressor.default_model.training.retrieval import first_pass_states, with_queries
from compressor.fwd2bot.model import SummaryLvlm
from tests.compressor.default_model.data import drawing


def test_photographs_come_twice_and_scenes_with_a_rival(
    frozen_model: SummaryLvlm, tmp_path: Path
) -> None:
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (40 + number, 40), colour).save(tmp_path / f"{colour}.png")
    photos = [
        Photo(tmp_path / "red.png", "cat", ()),
        Photo(
            tmp_path / "blue.png",
            None,
            ("a dog", "a tree", "the dog"),
        ),
    ]
    for number, title in enumerate(
        ("apple", "pear", "cat", "dog", "hammer", "balloon")
    ):
        drawing.stamp(
            tmp_path / "stamps" / title,
            f"A {title}.",
            list(drawing.PAINT)[number % 4],
        )
    list(cutouts.prepare({"tuxpaint": tmp_path / "stamps"}, tmp_path / "objects"))
    states, tokens = first_pass_states(
        frozen_model,
        photos,
        cutouts.load(tmp_path / "objects"),
        1,
        scene_count=3,
    )
    assert len(states.images) == len(tokens) == 2 * 2 + 3
    assert states.texts.shape == (len(states.owners), states.images.shape[2])
    assert states.folds.tolist() == [photos[0].fold] * 2 + [photos[1].fold] * 2 + [
        0,
        1,
        2,
    ]
    owners = states.owners.tolist()
    assert (
        owners.count(2) == owners.count(3) == 3
    )  # the captions of the second photograph, of both its views
    assert owners.count(-1) == 3
    for text, rival in enumerate(states.hard_negatives.tolist()):
        assert (rival >= 0) == (owners[text] >= 4)
        if rival >= 0:
            assert owners[rival] == -1
            assert not torch.equal(states.texts[text], states.texts[rival])
    nouns = WordNet((Noun("dog", "animal", 42), Noun("tree", "plant", 7)), ())
    more = with_queries(frozen_model, photos, states, nouns)
    assert [len(each) for each in more.queries] == [
        1,
        1,
        3,
        3,
        0,
        0,
        0,
    ]  # cat; two captions say dog, in three forms
    assert (
        more.texts.shape[0]
        == len(more.owners)
        == len(more.hard_negatives)
        == len(states.texts) + 4
    )
    assert {*more.queries[0], *more.queries[2]} == {
        len(states.texts) + number for number in range(4)
    }
    assert torch.equal(more.owners[: len(states.texts)], states.owners)
