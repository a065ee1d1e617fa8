"""TODO."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from compressor.default_model.data import colours, scenes
from compressor.default_model.data.cutouts import Objects
from tests.compressor.default_model.data import drawing


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return drawing.prepared(tmp_path_factory.mktemp("objects"))


def test_the_same_seed_gives_the_same_scene(pool: Objects) -> None:
    for seed in range(10):
        one, other = (scenes.compose(random.Random(seed), pool) for _ in range(2))
        assert one.objects == other.objects
        assert one.image.tobytes() == other.image.tobytes()
    assert scenes.compose(random.Random(0), pool).image.tobytes() != one.image.tobytes()


def test_sizes_boxes_and_order(pool: Objects) -> None:
    for seed in range(100):
        scene = scenes.compose(random.Random(seed), pool)
        width, height = scene.image.size
        assert scene.image.mode == "RGB"
        assert scenes.SHORTEST_PX <= min(width, height) <= max(width, height) <= scenes.LONGEST_PX
        assert 1 <= len(scene.objects) <= 4
        assert [placed.centre[0] for placed in scene.objects] == sorted(
            placed.centre[0] for placed in scene.objects
        )
        for placed in scene.objects:
            left, top, right, bottom = placed.box
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height


def test_there_are_as_many_things_in_the_pixels_as_counted(pool: Objects) -> None:
    """Counts the islands that differ from the background, on scenes without noise, blur or JPEG."""
    counted = 0
    for seed in range(150):
        scene = scenes.compose(random.Random(seed), pool, groups=(1 + seed % 4,))
        pixels = np.asarray(scene.image).astype(int)
        # Only plain undamaged scenes, seen by their corners and their few colours, can be counted
        # exactly.
        corner = pixels[0, 0]
        different = np.abs(pixels - corner).sum(axis=2) > 60
        if not all(
            (pixels[y, x] == corner).all() for y, x in ((0, -1), (-1, 0), (-1, -1))
        ) or _boxes_touch(scene):
            continue
        counted += 1
        assert _islands(different) == len(scene.objects) == 1 + seed % 4
    assert counted > 20


def test_groups_are_kept(pool: Objects) -> None:
    for groups in ((1,), (3,), (4,), (1, 1), (2, 1), (2, 2), (1, 1, 1, 1)):
        scene = scenes.compose(random.Random(str(groups)), pool, groups)
        assert sorted(scene.counts.values()) == sorted(groups)
    with pytest.raises(ValueError, match="2 names"):
        scenes.compose(random.Random(0), Objects(pool.folder, pool.cutouts[:1]), (1, 1))


def test_the_background_has_the_colour_it_is_said_to_have_and_no_object_has_it(
    pool: Objects,
) -> None:
    found = Counter[str]()
    for seed in range(200):
        scene = scenes.compose(random.Random(seed), pool)
        found[scene.background] += 1
        border = np.concatenate(
            [
                np.asarray(scene.image)[:2].reshape(-1, 3),
                np.asarray(scene.image)[-2:].reshape(-1, 3),
            ]
        )
        counts = colours.colour_counts(border)
        assert counts[scene.background] == max(counts.values()), (seed, counts)
        assert scene.background not in {placed.colour for placed in scene.objects}
    assert set(found) == set(colours.COLOURS)


def test_objects_hardly_overlap(pool: Objects) -> None:
    for seed in range(60):
        boxes = [placed.box for placed in scenes.compose(random.Random(seed), pool, (4,)).objects]
        for one in boxes:
            for other in boxes:
                if one is not other:
                    across = min(one[2], other[2]) - max(one[0], other[0])
                    down = min(one[3], other[3]) - max(one[1], other[1])
                    area = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
                    assert max(0, across) * max(0, down) <= 0.03 * area


def test_places_are_told_only_where_they_are_clear() -> None:
    def placed(x: float, y: float) -> scenes.Placed:
        return scenes.Placed("apple", "fruit", "red", (0, 0, 1, 1), (x, y))

    assert (placed(0.2, 0.8).across, placed(0.2, 0.8).down) == ("left", "bottom")
    assert (placed(0.5, 0.5).across, placed(0.9, 0.1).down) == ("middle", "top")
    assert placed(0.41, 0.59).across is None
    assert placed(0.41, 0.59).down is None


def _boxes_touch(scene: scenes.Scene) -> bool:
    boxes = [placed.box for placed in scene.objects]
    return any(
        one is not other
        and min(one[2], other[2]) + 2 > max(one[0], other[0])
        and min(one[3], other[3]) + 2 > max(one[1], other[1])
        for one in boxes
        for other in boxes
    )


def _islands(mask: np.ndarray) -> int:
    """The number of connected regions of more than a few pixels."""
    labels, _ = ndimage.label(mask)
    return int((np.bincount(labels.ravel())[1:] > 30).sum())
