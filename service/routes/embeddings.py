"""The route of text embeddings."""

from __future__ import annotations

from fastapi import APIRouter

from service.dependencies import (
    READ,
    ContextOf,
    GuardedRoute,
    ServicesOf,
    require_content_type,
)
from service.schemas.search import EmbeddingsBody, EmbeddingsInput

router = APIRouter(prefix="/embeddings", tags=["embeddings"], route_class=GuardedRoute)


@router.post("", dependencies=[READ, require_content_type("application/json")])
def embed_texts(
    services: ServicesOf, context: ContextOf, body: EmbeddingsInput
) -> EmbeddingsBody:
    """Embed texts as searches do; the inner product with an image's embedding is its score."""
    embeddings, timings_ms = services.search.embed(body.texts, context)
    return EmbeddingsBody(
        embeddings=[embedding.tolist() for embedding in embeddings],
        fingerprint=services.library.fingerprint,
        timings_ms=timings_ms,
    )
