"""Keys and values of prompts read before, so that a second question reads only itself.

A radix tree over the embeddings of tokens: prompts that begin alike share what they begin with, be
it an image's summary tokens or a conversation. Shapes: T tokens, D hidden size, L layers, H
key-value heads, S head size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compressor.ports import PrefixStats


@dataclass(eq=False)
class _Node:
    keys: tuple[bytes, ...]  # of the tokens on the way here from the parent
    states: NDArray[np.float32]  # (2 L, H, tokens, S)
    parent: _Node | None
    children: dict[bytes, _Node] = field(default_factory=dict)  # by their first key
    last_use: int = 0


class PrefixCache:
    """Keeps the least recently used out, by bytes."""

    def __init__(self, max_bytes: int) -> None:
        """Keeps nothing where `max_bytes` is 0."""
        self._max_bytes = max_bytes
        self._root = _Node((), np.empty((0, 0, 0, 0), np.float32), None)
        self._held_bytes = 0
        self._clock = 0
        self._tokens_read = 0
        self._tokens_reused = 0

    @property
    def stats(self) -> PrefixStats:
        """What it has done so far; may be read on any thread."""
        return PrefixStats(self._tokens_read, self._tokens_reused, self._held_bytes)

    def longest(self, embeddings: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Parts (2 L, H, tokens, S), in order, of the longest prefix known of a (T, D) prompt.

        At most T - 1 tokens: the logits behind the last have to be computed.
        """
        keys = _keys(embeddings)[:-1]
        parts = []
        reused = 0
        for node, count in self._path(keys):
            parts.append(node.states[:, :, :count])
            reused += count
        self._tokens_read += len(embeddings)
        self._tokens_reused += reused
        return parts

    def keep(
        self, embeddings: NDArray[np.float32], states: NDArray[np.float32]
    ) -> None:
        """Takes in the (2 L, H, T, S) keys and values of (T, D) tokens; copies what is new."""
        keys = _keys(embeddings)
        parent = self._root
        start = 0
        for node, count in self._path(keys):
            start += count
            parent = node if count == len(node.keys) else self._split(node, count)
        rest = tuple(keys[start:])
        if not rest or states[:, :, start:].nbytes > self._max_bytes:
            return
        leaf = _Node(rest, states[:, :, start:].copy(), parent)
        leaf.last_use = self._clock
        parent.children[rest[0]] = leaf
        self._held_bytes += leaf.states.nbytes
        self._drop_oldest()

    def _path(self, keys: list[bytes]) -> list[tuple[_Node, int]]:
        """The nodes that a sequence goes through, each now used, and how many tokens of it."""
        self._clock += 1
        path = []
        node = self._root
        start = 0
        while start < len(keys) and (child := node.children.get(keys[start])):
            count = 0
            for known, wanted in zip(child.keys, keys[start:], strict=False):
                if known != wanted:
                    break
                count += 1
            child.last_use = self._clock
            path.append((child, count))
            if count < len(child.keys):
                break
            start += count
            node = child
        return path

    def _split(self, node: _Node, count: int) -> _Node:
        """Puts a node between one and its parent that has its first tokens; returns it."""
        assert node.parent is not None, "the root has no tokens"
        # Copies: as views, both would keep all of the states alive.
        first = _Node(node.keys[:count], node.states[:, :, :count].copy(), node.parent)
        first.last_use = node.last_use
        first.children[node.keys[count]] = node
        node.parent.children[node.keys[0]] = first
        node.keys = node.keys[count:]
        node.states = node.states[:, :, count:].copy()
        node.parent = first
        return first

    def _drop_oldest(self) -> None:
        while self._held_bytes > self._max_bytes:
            leaves = [each for each in self._nodes(self._root) if not each.children]
            oldest = min(leaves, key=lambda each: each.last_use)
            assert oldest.parent is not None, "the root is no leaf while bytes are held"
            del oldest.parent.children[oldest.keys[0]]
            self._held_bytes -= oldest.states.nbytes

    def _nodes(self, node: _Node) -> Iterator[_Node]:
        for child in node.children.values():
            yield child
            yield from self._nodes(child)


def _keys(embeddings: NDArray[np.float32]) -> list[bytes]:
    """A key for each of (T, D) embeddings: 16 bytes, which no two of them share by chance."""
    rows = np.ascontiguousarray(embeddings, np.float32)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
