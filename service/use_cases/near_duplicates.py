"""Stored images that are nearly the same as a new one, by their stored embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index.library import Library
from index.ports import Record

MOST_TOLD = 5  # of one image


@dataclass(frozen=True)
class NearDuplicate:
    """A stored image that is nearly the same."""

    id: str
    score: float  # cosine of the two embeddings


def near_duplicates(
    library: Library, records: Sequence[Record], least_score: float
) -> list[list[NearDuplicate]]:
    """For each record the other images that resemble it at least so much, nearest first.

    One search for all records, without the model. Raises StoreError.
    """
    if not records:
        return []
    queries = np.stack([record.embedding for record in records])
    # One more: an image finds itself, wherever it ranks among its equals.
    hits = library.search(queries, MOST_TOLD + 1)
    told = []
    for record, nearest in zip(records, hits, strict=True):
        near = [
            NearDuplicate(hit.id, hit.score)
            for hit in nearest
            if hit.id != record.id and hit.score >= least_score
        ]
        told.append(near[:MOST_TOLD])
    return told
