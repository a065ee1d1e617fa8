"""What captions say of a picture: heads that know a photograph, and heads that were kept from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from compressor.default_model.data.photos import FOLDS, Photo
from compressor.default_model.projector import CaptionHeads, WordProjector
from compressor.default_model.training.caption_heads import fit_captions, load_folds, save_folds
from compressor.default_model.training.heads import Seen
from compressor.default_model.training.retrieval import first_pass_states
from compressor.fwd2bot.model import SummaryLvlm
from tests.compressor.tiny import WORDS


@pytest.fixture
def projector(model: SummaryLvlm) -> WordProjector:
    found = model.base.model.multi_modal_projector
    assert isinstance(found, WordProjector)
    return found


def seen_photos(projector: WordProjector, count: int) -> Seen:
    torch.manual_seed(1)
    vision = projector.vision
    size = vision.feature_size + vision.fine_size + vision.colour_size
    photos = [
        Photo(Path(f"{n}.jpg"), None, (f"a {WORDS.captions[n % len(WORDS.captions)]}",))
        for n in range(count)
    ]
    cells = torch.rand(count + 5, vision.grid_size**2, size).half()
    return Seen([], cells[count:], photos, cells[:count])


def embedding(width: int) -> Callable[[str], Tensor]:
    """Different for different texts, the same for the same."""
    return lambda text: torch.randn(
        width, generator=torch.Generator().manual_seed(sum(map(ord, text)))
    )


def fitted(projector: WordProjector, count: int = 40) -> tuple[Seen, list[CaptionHeads]]:
    seen = seen_photos(projector, count)
    width = projector.sense.out_features
    with torch.no_grad():
        projector.caption_words.normal_()
    return seen, fit_captions(projector, WORDS, seen, embedding(width))


def test_a_head_kept_from_a_fold_does_not_depend_on_its_photographs(
    projector: WordProjector,
) -> None:
    seen, folds = fitted(projector)
    assert len(folds) == FOLDS
    row = 0
    fold = seen.photos[row].fold
    changed = seen.photo_cells.clone()
    changed[row] = changed[row] * 0 + 9
    width = projector.sense.out_features
    again = fit_captions(
        projector, WORDS, Seen([], seen.scene_cells, seen.photos, changed), embedding(width)
    )
    same = [
        torch.equal(one.captions.weight, other.captions.weight)
        for one, other in zip(folds, again, strict=True)
    ]
    assert same == [number == fold for number in range(FOLDS)]


def test_folds_are_written_and_read(projector: WordProjector, tmp_path: Path) -> None:
    assert load_folds(tmp_path) == []
    _, folds = fitted(projector)
    save_folds(folds, tmp_path)
    for one, other in zip(folds, load_folds(tmp_path), strict=True):
        assert torch.allclose(one.captions.weight, other.captions.weight, atol=1e-3, rtol=1e-2)
        assert torch.allclose(one.sense.bias, other.sense.bias, atol=1e-2, rtol=1e-2)


def test_a_training_photograph_is_seen_through_the_heads_of_its_fold(model: SummaryLvlm) -> None:
    base = model.base
    projector = base.model.multi_modal_projector
    _, base.caption_folds = fitted(projector)
    try:
        pooled = torch.rand(3, projector.vision.feature_size)
        with torch.no_grad():
            own, _ = projector.captions_of(pooled)
            with base.as_if_unseen([(), (), ()], [None, 2, 4]):
                shares, sense = projector.captions_of(pooled)
            after, _ = projector.captions_of(pooled)
        assert torch.equal(own, after)
        assert torch.allclose(shares[0], own[0], atol=1e-5)
        for row, fold in ((1, 2), (2, 4)):
            inputs = pooled[row].sqrt()
            assert torch.allclose(
                shares[row], base.caption_folds[fold].captions(inputs).clamp(0, 1), atol=1e-5
            )
            assert torch.allclose(sense[row], base.caption_folds[fold].sense(inputs), atol=1e-4)
    finally:
        base.caption_folds = []


def test_the_states_of_training_photographs_come_through_their_folds(
    model: SummaryLvlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int | None]] = []
    unseen = model.base.as_if_unseen
    monkeypatch.setattr(
        model.base,
        "as_if_unseen",
        lambda hidden, folds: (asked.append(list(folds)), unseen(hidden, folds))[1],
    )
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    photo = Photo(tmp_path / "red.png", "cat", ())
    first_pass_states(model, [photo], None, 1, scene_count=0)  # type: ignore[arg-type]  # no scene is drawn
    assert asked == [[photo.fold, photo.fold]]
