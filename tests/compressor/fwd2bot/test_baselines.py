"""Baselines: K vectors of each image, whatever the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from compressor.errors import BaselineUnavailable
from compressor.fwd2bot.baselines import (
    BASELINES,
    Baseline,
    downsampled_image,
    grid,
    pool,
)
from compressor.fwd2bot.model import SummaryLvlm
from tests.compressor.production import (
    ARCHITECTURES,
    SUMMARY,
    production_model,
    qwen3_vl,
)
from tests.conformance.summary_model_suite import pictures

TOKENS = 6
# DeepStack: visual tokens alone are not what Qwen3-VL sees.
NEED_VISUAL_TOKENS = {
    Baseline.ALL_VISUAL_TOKENS,
    Baseline.MEAN_POOLING,
    Baseline.DOWNSAMPLED_IMAGE,
}


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda made: made.__name__)
def model(request: pytest.FixtureRequest) -> SummaryLvlm:
    return model_of(request.param)


def model_of(architecture: Callable[[], Any]) -> SummaryLvlm:
    made = production_model(
        architecture, dataclasses.replace(SUMMARY, token_count=TOKENS)
    )
    return made.requires_grad_(False)


@pytest.mark.parametrize("baseline", Baseline, ids=lambda each: each.value)
def test_k_vectors_of_each_image(model: SummaryLvlm, baseline: Baseline) -> None:
    images = pictures()
    if baseline in NEED_VISUAL_TOKENS and model.base.config.model_type == "qwen3_vl":
        with pytest.raises(BaselineUnavailable, match="deepstack"):
            BASELINES[baseline](model, images)
        return
    if (
        baseline == Baseline.ALL_VISUAL_TOKENS
        and model.base.config.model_type == "qwen2_5_vl"
    ):
        with pytest.raises(BaselineUnavailable, match="several axes"):
            BASELINES[baseline](model, images)
        return
    vectors = BASELINES[baseline](model, images)
    alone = [BASELINES[baseline](model, [image])[0] for image in images]
    assert len(vectors) == len(images)
    for together, single in zip(vectors, alone, strict=True):
        assert together.shape == single.shape
        if baseline != Baseline.ALL_VISUAL_TOKENS:
            assert together.shape == (TOKENS, model.hidden_size)
        torch.testing.assert_close(together, single, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(vectors[0], vectors[1].mean(0), atol=1e-3)


def test_every_baseline_has_an_entry() -> None:
    assert set(BASELINES) == set(Baseline)


def test_a_model_of_any_resolution_makes_the_tokens_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No pooling: six patches of 28 px, merged from 14, are the model's own six tokens."""
    model = model_of(
        next(each for each in ARCHITECTURES if each.__name__ == "qwen2_5_vl")
    )
    assert model.patch_px == 28
    monkeypatch.setattr("compressor.fwd2bot.baselines.pool", None)
    image = Image.linear_gradient("L").resize((900, 600)).convert("RGB")
    (found,) = downsampled_image(model, [image])
    small = image.resize((3 * 28, 2 * 28), Image.Resampling.BOX)
    torch.testing.assert_close(found, model.visual_vectors([small])[0])


def test_a_fixed_grid_sees_the_small_image_and_pools() -> None:
    model = model_of(ARCHITECTURES[0])
    image = pictures()[1]
    side_px = round(TOKENS**0.5 * model.patch_px)
    small = image.resize((side_px, side_px), Image.Resampling.BOX)
    (found,) = downsampled_image(model, [image])
    torch.testing.assert_close(found, pool(model.visual_vectors([small])[0], TOKENS))


def test_words_as_text_are_embeddings_of_words(model: SummaryLvlm) -> None:
    (found,) = BASELINES[Baseline.WORDS_AS_TEXT](model, pictures()[:1])
    distances = torch.cdist(found, model.embedding.weight)
    assert distances.amin(1).max() < 1e-2
    assert not set(distances.argmin(1).tolist()) & {
        *model.end_ids,
        model.image_token_id,
    }


def test_words_as_text_are_what_generate_writes(model: SummaryLvlm) -> None:
    image = pictures()[1]
    inputs = model._summary_inputs([image])
    banned = [[end] for end in (*model.end_ids, model.image_token_id)]
    written = model.base.generate(
        **inputs,
        max_new_tokens=TOKENS,
        do_sample=False,
        bad_words_ids=banned,
        eos_token_id=None,
    )
    (found,) = BASELINES[Baseline.WORDS_AS_TEXT](model, [image])
    torch.testing.assert_close(found, model.embedding(written[:, -TOKENS:])[0])


@pytest.mark.parametrize(
    ("count", "aspect", "expected"),
    [
        (1, 1.0, (1, 1)),
        (6, 1.5, (3, 2)),
        (6, 0.6, (2, 3)),
        (16, 1.0, (4, 4)),
        (32, 2.0, (8, 4)),
        (7, 1.0, (3, 2)),
        (8, 30.0, (8, 1)),
    ],
)
def test_a_grid_is_near_to_the_images_shape(
    count: int, aspect: float, expected: tuple[int, int]
) -> None:
    assert grid(count, aspect) == expected


def test_refused_models_keep_the_other_baselines() -> None:
    model = model_of(qwen3_vl)
    for baseline in set(Baseline) - NEED_VISUAL_TOKENS:
        assert BASELINES[baseline](model, pictures()[:1])[0].shape == (
            TOKENS,
            model.hidden_size,
        )
