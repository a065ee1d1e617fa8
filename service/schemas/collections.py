"""Bodies of collections."""

from __future__ import annotations

from pydantic import BaseModel, Field


class CollectionBody(BaseModel):
    """A collection."""

    name: str = Field(description="name of the collection")


class CollectionsBody(BaseModel):
    """All collections."""

    collections: list[CollectionBody] = Field(
        description="all collections, in alphabetical order"
    )
