"""Composed scenes: deterministic, legible, and as they describe themselves."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from compressor.default_model.data import colours, scenes
from compressor.default_model.data.cutouts import Objects
from tests.compressor.default_model.data import drawing

Box = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return drawing.prepared(tmp_path_factory.mktemp("objects"))


def test_the_same_seed_gives_the_same_scene(pool: Objects) -> None:
    for seed in range(10):
        first = scenes.compose(random.Random(seed), pool)
        second = scenes.compose(random.Random(seed), pool)
        assert first.objects == second.objects
        assert first.image.tobytes() == second.image.tobytes()
    other = scenes.compose(random.Random(0), pool)
    assert other.image.tobytes() != first.image.tobytes()


def test_sizes_boxes_and_order(pool: Objects) -> None:
    for seed in range(100):
        scene = scenes.compose(random.Random(seed), pool)
        width, height = scene.image.size
        assert scene.image.mode == "RGB"
        assert min(width, height) >= scenes.SHORTEST_PX
        assert max(width, height) <= scenes.LONGEST_PX
        assert 1 <= len(scene.objects) <= 4
        across = [placed.centre[0] for placed in scene.objects]
        assert across == sorted(across)
        for placed in scene.objects:
            left, top, right, bottom = placed.box
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height


def test_pixels_show_as_many_objects_as_counted(pool: Objects) -> None:
    """Counts the islands that differ from the background, on scenes without noise, blur or JPEG."""
    counted = 0
    for seed in range(150):
        count = 1 + seed % 4
        scene = scenes.compose(
            random.Random(seed),
            pool,
            groups=(count,),
        )
        pixels = np.asarray(scene.image).astype(int)
        # Only a plain undamaged scene, whose corners are all equal, can be counted exactly.
        corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
        if (corners != corners[0]).any() or _boxes_touch(scene):
            continue
        counted += 1
        different = np.abs(pixels - corners[0]).sum(axis=2) > 60
        assert _islands(different) == len(scene.objects) == count
    assert counted > 20


def test_groups_are_kept(pool: Objects) -> None:
    for groups in ((1,), (3,), (4,), (1, 1), (2, 1), (2, 2), (1, 1, 1, 1)):
        scene = scenes.compose(
            random.Random(str(groups)),
            pool,
            groups,
        )
        assert sorted(scene.counts.values()) == sorted(groups)
    with pytest.raises(ValueError, match="2 names"):
        scenes.compose(
            random.Random(0),
            Objects(pool.folder, pool.cutouts[:1]),
            (1, 1),
        )


def test_the_background_has_its_colour_and_no_object_has_it(pool: Objects) -> None:
    backgrounds = set()
    for seed in range(200):
        scene = scenes.compose(random.Random(seed), pool)
        backgrounds.add(scene.background)
        pixels = np.asarray(scene.image)
        border = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
        counts = colours.colour_counts(border)
        assert counts[scene.background] == max(counts.values()), (seed, counts)
        assert scene.background not in {placed.colour for placed in scene.objects}
    assert backgrounds == set(colours.COLOURS)


def test_objects_hardly_overlap(pool: Objects) -> None:
    for seed in range(60):
        scene = scenes.compose(random.Random(seed), pool, (4,))
        boxes = [placed.box for placed in scene.objects]
        for first, second in combinations(boxes, 2):
            across, down = _overlap_px(first, second)
            smaller = min(_area(first), _area(second))
            assert max(0, across) * max(0, down) <= 0.03 * smaller


def test_a_place_has_a_word_only_where_it_is_clear() -> None:
    def placed(x: float, y: float) -> scenes.Placed:
        return scenes.Placed(
            "apple",
            "fruit",
            "red",
            (0, 0, 1, 1),
            (x, y),
        )

    assert (placed(0.2, 0.8).across, placed(0.2, 0.8).down) == ("left", "bottom")
    assert (placed(0.5, 0.5).across, placed(0.9, 0.1).down) == ("middle", "top")
    assert placed(0.41, 0.59).across is None
    assert placed(0.41, 0.59).down is None


def _boxes_touch(scene: scenes.Scene) -> bool:
    boxes = [placed.box for placed in scene.objects]
    return any(min(_overlap_px(*pair)) > -2 for pair in combinations(boxes, 2))


def _overlap_px(first: Box, second: Box) -> tuple[int, int]:
    """Across and down, in pixels; negative where a gap lies between."""
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    return across, down


def _area(box: Box) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def _islands(mask: np.ndarray) -> int:
    """The number of connected regions of more than a few pixels."""
    labels, _ = ndimage.label(mask)
    return int((np.bincount(labels.ravel())[1:] > 30).sum())
