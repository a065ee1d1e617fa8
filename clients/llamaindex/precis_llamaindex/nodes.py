"""What a node of LlamaIndex holds of a stored image."""

from __future__ import annotations

import base64
from typing import Any

from precis_client import Precis
from precis_client.errors import NotFound
from precis_client.image_text import image_text
from precis_client.results import DetailedImage

THUMBNAIL_TYPE = "image/webp"


def kept_thumbnail(client: Precis, image_id: str) -> bytes | None:
    """The thumbnail of an image; None where none was kept."""
    try:
        return client.thumbnail(image_id)
    except NotFound:
        return None


def node_fields(
    image: DetailedImage,
    thumbnail: bytes | None,
    thumbnail_url: str,
    *,
    caption: str | None = None,
) -> dict[str, Any]:
    """Arguments of an ImageNode or an ImageDocument.

    The text is the caption, if any, and what else is known of the image as text. The picture is the
    thumbnail, where one was kept. The metadata are the image's own with `image_id`, `thumbnail_url`
    and the size in pixels.
    """
    text = image_text(image)
    fields: dict[str, Any] = {
        "id_": image.id,
        "text": text if caption is None else f"{caption}\n{text}",
        "metadata": {
            **image.metadata,
            "image_id": image.id,
            "width_px": image.width_px,
            "height_px": image.height_px,
            "thumbnail_url": thumbnail_url,
        },
    }
    if thumbnail is not None:
        fields["image"] = base64.b64encode(thumbnail).decode()
        fields["image_mimetype"] = THUMBNAIL_TYPE
    return fields
