"""A stored image as a document of LangChain."""

from __future__ import annotations

from typing import Any

from langchain_core.documents import Document

from precis_client.image_text import image_text
from precis_client.results import DetailedImage, Hit, Image


def image_document(
    image: DetailedImage,
    thumbnail_url: str,
    *,
    hit: Hit | None = None,
    caption: str | None = None,
) -> Document:
    """The document of an image: its caption, if any, and what else is known of it as text.

    Its metadata are the image's own, with `id`, `thumbnail_url`, `width_px` and `height_px`, and
    with `score` and `probability` of a hit.
    """
    text = image_text(image)
    content = text if caption is None else f"{caption}\n{text}"
    metadata = {**image.metadata, **_facts(image), "thumbnail_url": thumbnail_url}
    if hit is not None:
        metadata |= {"score": hit.score, "probability": hit.probability}
    return Document(id=image.id, page_content=content, metadata=metadata)


def _facts(image: Image) -> dict[str, Any]:
    return {"id": image.id, "width_px": image.width_px, "height_px": image.height_px}
