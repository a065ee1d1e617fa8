"""What every summary model promises. An adapter's test class derives from this one and says how it
is made.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from PIL import Image

from compressor.ports import Mode, SummaryModel


def pictures() -> list[Image.Image]:
    """Pictures of different sizes, shapes and content."""
    gradient = Image.linear_gradient("L")
    return [
        Image.new("RGB", (64, 48), "red"),
        gradient.resize((200, 300)).convert("RGB"),
        gradient.rotate(90).resize((31, 17)).convert("RGB"),
        Image.new("RGB", (1, 1), "blue"),
    ]


class SummaryModelSuite:
    tolerance = 1e-5  # how far a batch may differ from its items one by one

    @classmethod
    def make(cls) -> SummaryModel:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> SummaryModel:
        return cls.make()

    def test_names_itself(self, model: SummaryModel) -> None:
        assert len(model.fingerprint) >= 32
        int(model.fingerprint, 16)

    def test_says_what_it_is(self, model: SummaryModel) -> None:
        description = model.description
        assert description.base_model
        assert description.mode in get_args(Mode)
        assert list(description.budgets) == sorted(set(description.budgets))
        assert description.budgets[0] >= 1
        assert description.budgets[-1] == model.tokens_shape[0]

    def test_shapes_and_types(self, model: SummaryModel) -> None:
        images = pictures()
        summary = model.compress(images)
        assert summary.tokens.shape == (len(images), *model.tokens_shape)
        assert summary.embeddings.shape == (len(images), model.embedding_size)
        assert summary.tokens.dtype == summary.embeddings.dtype == np.float32
        assert np.isfinite(summary.tokens).all()
        texts = model.embed_text(["a red square", "grey"])
        assert texts.shape == (2, model.embedding_size)
        assert texts.dtype == np.float32

    def test_embeddings_have_length_one(self, model: SummaryModel) -> None:
        vectors = [
            model.compress(pictures()).embeddings,
            model.embed_text(["a", "a red square on a table", "né à 東京"]),
        ]
        np.testing.assert_allclose(
            np.linalg.norm(np.concatenate(vectors), axis=1), 1, atol=1e-4
        )

    def test_the_same_input_gives_the_same_output(self, model: SummaryModel) -> None:
        first, second = model.compress(pictures()), model.compress(pictures())
        np.testing.assert_array_equal(first.tokens, second.tokens)
        np.testing.assert_array_equal(first.embeddings, second.embeddings)
        np.testing.assert_array_equal(
            model.embed_text(["a cat"]), model.embed_text(["a cat"])
        )

    def test_a_batch_gives_what_its_items_give_alone(self, model: SummaryModel) -> None:
        images, texts = (
            pictures(),
            ["a cat", "a much longer text about a dog on a red sofa"],
        )
        batch = model.compress(images)
        alone = [model.compress([image]) for image in images]
        np.testing.assert_allclose(
            batch.tokens,
            np.concatenate([each.tokens for each in alone]),
            atol=self.tolerance,
        )
        np.testing.assert_allclose(
            batch.embeddings,
            np.concatenate([each.embeddings for each in alone]),
            atol=self.tolerance,
        )
        each_text = np.concatenate([model.embed_text([text]) for text in texts])
        np.testing.assert_allclose(
            model.embed_text(texts), each_text, atol=self.tolerance
        )

    def test_spellings_of_one_text_have_one_embedding(
        self, model: SummaryModel
    ) -> None:
        plain = model.embed_text(["a café"])
        for variant in ("A Café.", "A CAFÉ", " a  café", "a\u00a0café", "a cafe\u0301"):
            np.testing.assert_array_equal(model.embed_text([variant]), plain)

    def test_different_pictures_differ(self, model: SummaryModel) -> None:
        embeddings = model.compress(pictures()).embeddings
        similarity = embeddings @ embeddings.T
        assert (similarity[~np.eye(len(similarity), dtype=bool)] < 0.9999).all()

    def test_does_not_change_its_input(self, model: SummaryModel) -> None:
        images = pictures()
        model.compress(images)
        assert [image.tobytes() for image in images] == [
            image.tobytes() for image in pictures()
        ]
