"""Caption heads: fitted to all photographs, and out of fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.photos import FOLDS, Photo
from compressor.default_model.llava import WordLlavaForConditionalGeneration, word_llava
from compressor.default_model.projector import CaptionHeads, WordProjector
from compressor.default_model.training.heads import (
    CachedFeatures,
    fit_captions,
    load_folds,
    save_folds,
)
from compressor.default_model.training.retrieval import first_pass_states
from compressor.fwd2bot.model import SummaryLvlm
from tests.compressor.tiny import WORDS


@pytest.fixture
def base(model: SummaryLvlm) -> WordLlavaForConditionalGeneration:
    return word_llava(model.base)


@pytest.fixture
def projector(base: WordLlavaForConditionalGeneration) -> WordProjector:
    return base.projector


def captioned_features(projector: WordProjector, count: int = 40) -> CachedFeatures:
    torch.manual_seed(1)
    vision = projector.vision
    size = vision.feature_size + vision.fine_size + vision.colour_size
    photos = []
    for number in range(count):
        word = WORDS.captions[number % len(WORDS.captions)]
        photos.append(Photo(Path(f"{number}.jpg"), None, (f"a {word}",)))
    cells = torch.rand(count + 5, vision.grid_size**2, size).half()
    return CachedFeatures(
        [],
        cells[count:],
        photos,
        cells[:count],
    )


def embedding(width: int) -> Callable[[str], Tensor]:
    """Random, the same for the same text."""

    def embed(text: str) -> Tensor:
        generator = torch.Generator().manual_seed(sum(map(ord, text)))
        return torch.randn(width, generator=generator)

    return embed


def fitted_folds(
    projector: WordProjector, features: CachedFeatures
) -> list[CaptionHeads]:
    embed = embedding(projector.caption_embedding.out_features)
    with torch.no_grad():
        projector.caption_words.copy_(torch.ones_like(projector.caption_words))
    return fit_captions(projector, WORDS, features, embed)


def test_heads_out_of_a_fold_do_not_depend_on_its_photographs(
    projector: WordProjector,
) -> None:
    features = captioned_features(projector)
    folds = fitted_folds(projector, features)
    assert len(folds) == FOLDS
    changed = features.photo_cells.clone()
    changed[0] = 9
    again = fitted_folds(projector, replace(features, photo_cells=changed))
    own_fold = features.photos[0].fold
    for fold in range(FOLDS):
        same = torch.equal(folds[fold].captions.weight, again[fold].captions.weight)
        assert same == (fold == own_fold)


def test_folds_are_written_and_read(projector: WordProjector, tmp_path: Path) -> None:
    assert load_folds(tmp_path) == []
    folds = fitted_folds(projector, captioned_features(projector))
    save_folds(folds, tmp_path)
    for heads, read in zip(folds, load_folds(tmp_path), strict=True):
        weight, bias = heads.captions.weight, heads.caption_embedding.bias
        assert torch.allclose(read.captions.weight, weight, atol=1e-3, rtol=1e-2)
        assert torch.allclose(read.caption_embedding.bias, bias, atol=1e-2, rtol=1e-2)


def test_a_training_photograph_is_described_by_the_heads_without_its_fold(
    base: WordLlavaForConditionalGeneration, projector: WordProjector
) -> None:
    base.caption_folds = folds = fitted_folds(projector, captioned_features(projector))
    try:
        pooled = torch.rand(3, projector.vision.feature_size)

        def outputs() -> tuple[Tensor, Tensor]:
            return projector.caption_outputs(pooled, base.model.projector_context)

        with torch.no_grad():
            before, _ = outputs()
            with base.out_of_fold([(), (), ()], [None, 2, 4]):
                shares, embeddings = outputs()
            after, _ = outputs()
            assert torch.equal(before, after)
            assert torch.allclose(shares[0], before[0], atol=1e-5)
            for row, fold in ((1, 2), (2, 4)):
                inputs = pooled[row].sqrt()
                expected = folds[fold].captions(inputs).clamp(0, 1)
                assert torch.allclose(shares[row], expected, atol=1e-5)
                expected = folds[fold].caption_embedding(inputs)
                assert torch.allclose(embeddings[row], expected, atol=1e-4)
    finally:
        base.caption_folds = []


def test_states_of_training_photographs_are_out_of_fold(
    model: SummaryLvlm,
    base: WordLlavaForConditionalGeneration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requested: list[list[int | None]] = []
    out_of_fold = base.out_of_fold

    def recording(hidden: list[tuple[str, ...]], folds: list[int | None]) -> object:
        requested.append(folds)
        return out_of_fold(hidden, folds)

    monkeypatch.setattr(base, "out_of_fold", recording)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    photo = Photo(tmp_path / "red.png", "cat", ())
    first_pass_states(
        model,
        [photo],
        Objects(tmp_path, ()),
        1,
        scene_count=0,
    )
    assert requested == [[photo.fold, photo.fold]]
