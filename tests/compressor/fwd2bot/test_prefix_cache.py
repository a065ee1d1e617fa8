"""The cache of prompts read before, against what a prompt's keys and values are by definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compressor.fwd2bot.onnx_engine.prefix_cache import PrefixCache

# Few different tokens, so that sequences begin alike and part at any place.
sequences = st.lists(st.integers(0, 2), min_size=1, max_size=8)
TOKEN_BYTES = 4 * 3 * 2 * 4  # of one token's states here


def embeddings(tokens: list[int]) -> np.ndarray:
    return np.array(tokens, np.float32)[:, None] * np.ones(5, np.float32)


def states(tokens: list[int]) -> np.ndarray:
    """(4, 3, T, 2), which depend on all tokens up to each."""
    prefixes = np.array(
        [hash(tuple(tokens[: n + 1])) % 9973 for n in range(len(tokens))]
    )
    return np.broadcast_to(prefixes[:, None], (4, 3, len(tokens), 2)).astype(np.float32)


def reused(cache: PrefixCache, tokens: list[int]) -> np.ndarray:
    parts = cache.longest(embeddings(tokens))
    return np.concatenate([np.zeros((4, 3, 0, 2), np.float32), *parts], axis=2)


def common(one: list[int], other: list[int]) -> int:
    pairs = list(zip(one, other, strict=False))
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))


@given(st.lists(sequences, max_size=12), sequences)
def test_the_longest_known_prefix_is_found_and_has_its_own_states(
    kept: list[list[int]], wanted: list[int]
) -> None:
    cache = PrefixCache(max_bytes=10**6)
    for tokens in kept:
        cache.keep(embeddings(tokens), states(tokens))
    expected = max((common(tokens, wanted[:-1]) for tokens in kept), default=0)
    np.testing.assert_array_equal(
        reused(cache, wanted), states(wanted)[:, :, :expected]
    )
    assert cache.stats.tokens_reused == expected
    # What begins alike is held once.
    prefixes = {tuple(tokens[: n + 1]) for tokens in kept for n in range(len(tokens))}
    assert cache.stats.held_bytes == TOKEN_BYTES * len(prefixes)


@given(st.lists(sequences, min_size=1, max_size=30), st.integers(0, 12))
def test_it_never_holds_more_than_its_bytes_and_never_gives_others_states(
    kept: list[list[int]], most_tokens: int
) -> None:
    cache = PrefixCache(max_bytes=most_tokens * TOKEN_BYTES)
    for tokens in kept:
        cache.keep(embeddings(tokens), states(tokens))
        assert cache.stats.held_bytes <= most_tokens * TOKEN_BYTES
        found = reused(cache, [*tokens, 0])
        np.testing.assert_array_equal(found, states(tokens)[:, :, : found.shape[2]])


def test_what_was_used_last_stays() -> None:
    cache = PrefixCache(max_bytes=2 * TOKEN_BYTES)
    cache.keep(embeddings([0]), states([0]))
    cache.keep(embeddings([1]), states([1]))
    assert reused(cache, [0, 0]).shape[2] == 1
    cache.keep(embeddings([2]), states([2]))
    assert [reused(cache, [token, 0]).shape[2] for token in range(3)] == [1, 0, 1]


def test_the_caller_may_write_over_what_it_gave() -> None:
    cache = PrefixCache(max_bytes=10**6)
    given_states = states([1, 2])
    cache.keep(embeddings([1, 2]), given_states)
    given_states[:] = 0
    np.testing.assert_array_equal(reused(cache, [1, 2, 0]), states([1, 2]))
