"""The embedding matrix of an export: in eight bits where these hold it exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compressor.errors import ModelFilesInvalid
from compressor.fwd2bot.onnx_engine.readout import soft_words
from compressor.fwd2bot.onnx_engine.words import Words, in_eight_bits

# More than are read at a time, and no multiple of that.
W, D = 5003, 64


def published(count: int = W) -> np.ndarray:
    """Words as GGUF's Q8_0 has them: scales in float16, the largest code of a block 127."""
    draw = np.random.default_rng(5)
    codes = draw.integers(-126, 127, (count, D // 32, 32)).astype(np.float32)
    codes[..., 7] = draw.choice([-127, 127], codes.shape[:2])
    scales = draw.uniform(1e-4, 0.1, codes.shape[:2]).astype(np.float16)
    return (codes * scales[..., None].astype(np.float32)).reshape(count, D)


@pytest.fixture(scope="module")
def words() -> np.ndarray:
    made = published()
    made[3] = 0  # an added token
    return made


@pytest.fixture(scope="module")
def packed(words: np.ndarray) -> Words:
    in_bits = in_eight_bits(words)
    assert in_bits is not None
    return Words(*in_bits)


def test_published_words_are_read_as_the_same_numbers(
    words: np.ndarray, packed: Words
) -> None:
    assert (len(packed), packed.width) == words.shape
    np.testing.assert_array_equal(np.concatenate(list(packed.parts())), words)
    for ids in (
        np.array([3, 5002, 0, 3]),
        np.array([[7, 8], [9, 10]]),
        np.array([], int),
    ):
        read = packed[ids]
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, words[ids])


def test_a_file_is_mapped_and_read_as_it_was_written(
    tmp_path: Path, words: np.ndarray
) -> None:
    codes, scales = in_eight_bits(words) or pytest.fail("not packed")
    for values, beside in ((words, None), (codes, scales)):
        np.save(tmp_path / "words.npy", values)
        read = Words.load(tmp_path / "words.npy", beside)
        np.testing.assert_array_equal(read[np.arange(len(words))], words)


def nudged(words: np.ndarray) -> np.ndarray:
    words[11, 2] = np.nextafter(words[11, 2], np.float32(1))
    return words


@pytest.mark.parametrize(
    "words",
    [
        np.random.default_rng(1).normal(size=(8, D)).astype(np.float32),
        nudged(published(12)),
        published(8)[:, :40],
    ],
    ids=["any numbers", "one is not whole", "size"],
)
def test_other_words_are_not_packed(words: np.ndarray) -> None:
    assert in_eight_bits(words) is None


@pytest.mark.parametrize(
    ("values", "scales"),
    [
        (np.zeros((2, 32), np.int8), None),
        (np.zeros((2, 32), np.float32), np.zeros((2, 1), np.float32)),
        (np.zeros((2, 64), np.int8), np.zeros((2, 1), np.float32)),
        (np.zeros((2, 40), np.int8), np.zeros((2, 1), np.float32)),
        (np.zeros(32, np.float32), None),
    ],
)
def test_words_that_do_not_fit_are_refused(
    values: np.ndarray, scales: np.ndarray | None
) -> None:
    with pytest.raises(ModelFilesInvalid, match="words"):
        Words(values, scales)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_soft_words_are_the_softmax_over_all_words(
    words: np.ndarray, packed: Words, scale: float
) -> None:
    """Logits of up to thousands, in whichever part the largest is."""
    states = np.random.default_rng(2).normal(size=(2, 3, D)).astype(np.float32) * scale
    logits = states.astype(np.float64) @ words.T.astype(np.float64) / 0.5
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    expected = (weights / weights.sum(-1, keepdims=True)) @ words
    tolerance = 1e-4 * expected.std()
    for form in (Words(words), packed):
        np.testing.assert_allclose(
            soft_words(states, form, 0.5), expected, atol=tolerance
        )
