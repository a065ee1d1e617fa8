"""What the retrieval head makes of words; its pooling is tested with the settings."""

from __future__ import annotations

import torch
from torch import Tensor

from compressor.fwd2bot.retrieval_head import RetrievalHead, TextStates

WORDS, WIDTH, CHANNELS, POSITIONS = 50, 32, 8, 3


def head(vocabulary: Tensor) -> RetrievalHead:
    torch.manual_seed(2)
    return RetrievalHead(CHANNELS, 16, POSITIONS, vocabulary=vocabulary).eval()


def vocabulary() -> Tensor:
    return torch.randn(WORDS, WIDTH, generator=torch.Generator().manual_seed(1))


def texts(words: Tensor, counted: Tensor | None = None) -> TextStates:
    """Texts that differ in their words alone."""
    if counted is None:
        counted = torch.ones(words.shape[:2])
    return TextStates(torch.zeros(len(words), CHANNELS), words, counted)


def test_an_untrained_head_finds_an_image_by_the_word_in_its_summary_tokens() -> None:
    table = vocabulary()
    untrained = head(table)
    named = table[:20]
    mixtures = 0.7 * named.unsqueeze(1) + 0.3 * table[20 : 20 + POSITIONS]
    images = untrained.embed_image(torch.zeros(20, POSITIONS, CHANNELS), mixtures)
    found = untrained.embed_text(texts(named.unsqueeze(1))) @ images.T
    assert found.argmax(1).tolist() == list(range(20))
    torch.testing.assert_close(images.norm(dim=1), torch.ones(20))


def test_padding_and_added_tokens_do_not_count() -> None:
    table = vocabulary()
    untrained = head(table)
    plain = untrained.embed_text(texts(table[:2].unsqueeze(0)))
    padded = untrained.embed_text(
        texts(table[:4].unsqueeze(0), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    )
    torch.testing.assert_close(plain, padded)


def test_a_text_without_a_token_has_an_embedding() -> None:
    untrained = head(vocabulary())
    nothing = texts(torch.zeros(1, 1, WIDTH), torch.zeros(1, 1))
    assert untrained.embed_text(nothing).isfinite().all()


def test_words_are_compared_only_where_summary_tokens_are_words() -> None:
    without = RetrievalHead(CHANNELS, 16, POSITIONS)
    states = torch.randn(2, POSITIONS, CHANNELS)
    first, second = (
        without.embed_image(states, torch.full((2, POSITIONS, WIDTH), value))
        for value in (0.0, 1.0)
    )
    assert torch.equal(first, second)
