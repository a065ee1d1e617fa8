"""Bodies of searches and embeddings."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from service.schemas.base import Input, Text, TimingsMs
from service.schemas.images import ImageBody, record_fields
from service.use_cases.search import SearchHit, SearchResult


class HitBody(ImageBody):
    """An image that was found."""

    score: float = Field(description="cosine of the image's embedding and the query's")
    probability: float | None = Field(
        description="probability that the image matches the text; null where the "
        "model has no calibration"
    )
    by_text: bool = Field(
        description="whether every word of the query was read in the picture"
    )

    @classmethod
    def of_hit(cls, hit: SearchHit) -> Self:
        """From a hit of a search."""
        fields = record_fields(hit.record, hit.model_info)
        return cls(
            score=hit.score,
            probability=hit.probability,
            by_text=hit.by_text,
            **fields,
        )


class SearchBody(BaseModel):
    """Images found, best first."""

    results: list[HitBody] = Field(
        description="the images found, in the order asked for"
    )
    timings_ms: TimingsMs

    @classmethod
    def of(cls, result: SearchResult) -> Self:
        """From the result of a search."""
        hits = [HitBody.of_hit(hit) for hit in result.hits]
        return cls(results=hits, timings_ms=result.timings_ms)


class EmbeddingsInput(Input):
    """Texts to embed."""

    texts: list[Text] = Field(
        min_length=1, description="the texts to embed, at most PRECIS_QUEUE_SIZE"
    )


class EmbeddingsBody(BaseModel):
    """Embeddings of texts, in order, each of length 1."""

    embeddings: list[list[float]] = Field(description="one vector for each text")
    fingerprint: str = Field(
        description="fingerprint of the model: only images of this model can be "
        "compared with the vectors"
    )
    timings_ms: TimingsMs
