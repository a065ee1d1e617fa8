"""Bodies of stored images, and of the list of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, Field

from index.codecs.scalar import WeightedWord
from index.model_info import ModelInfo
from index.ports import Record

MODE = (
    "how its tokens were made: `adapters`, `soft words` or `soft words, one by one`; "
    "null as `model` is"
)


class TokensBody(BaseModel):
    """The summary tokens of an image, described."""

    count: int = Field(description="number of summary tokens that are kept")
    dim: int = Field(
        description="length of each token: the hidden size of the language model"
    )
    codec: str = Field(description="name of the token codec")
    bytes: int = Field(description="size of all tokens of the image, as stored")

    @classmethod
    def of(cls, record: Record) -> Self:
        """From a record."""
        return cls(
            count=record.token_count,
            dim=record.token_dim,
            codec=record.codec,
            bytes=len(record.tokens),
        )


class ImageBody(BaseModel):
    """A stored image."""

    id: str = Field(description="id of the image")
    sha256: str = Field(description="SHA-256 of the uploaded file")
    fingerprint: str = Field(description="fingerprint of the model that compressed it")
    model: str | None = Field(
        description="name of that model; null where the library does not know it"
    )
    mode: str | None = Field(description=MODE)
    tokens: TokensBody = Field(description="the summary tokens that are kept")
    width_px: int = Field(description="width of the picture")
    height_px: int = Field(description="height of the picture")
    created_at_ms: int = Field(
        description="when the image was stored: Unix time in milliseconds"
    )
    metadata: dict[str, Any] = Field(
        description="what is known of the image: uploaded with it, and read from the "
        "file"
    )

    @classmethod
    def of(cls, record: Record, model_info: ModelInfo | None) -> Self:
        """From a record and what made its tokens."""
        return cls(**record_fields(record, model_info))


class WordBody(BaseModel):
    """A word of a summary token."""

    text: str = Field(
        description="a token of the language model; a space before it where a word "
        "begins"
    )
    weight: float = Field(
        description="share of the word in the summary token; negative where its "
        "embedding is subtracted"
    )

    @classmethod
    def of(cls, word: WeightedWord) -> Self:
        """From a word of a summary token."""
        return cls(text=word.text, weight=round(word.weight, 4))


class DetailedBody(ImageBody):
    """A stored image, and what its summary tokens say."""

    words: list[list[WordBody]] | None = Field(
        description="the words of each summary token, heaviest first; null where the "
        "codec keeps no words"
    )

    @classmethod
    def of_words(
        cls,
        record: Record,
        model_info: ModelInfo | None,
        words: Sequence[Sequence[WeightedWord]] | None,
    ) -> Self:
        """From a record, what made its tokens, and its words."""
        if words is None:
            return cls(words=None, **record_fields(record, model_info))
        bodies = [[WordBody.of(word) for word in token] for token in words]
        return cls(words=bodies, **record_fields(record, model_info))


class PageBody(BaseModel):
    """A part of the list of images, in the order asked for."""

    images: list[ImageBody] = Field(description="the images of this page")
    next_cursor: str | None = Field(
        description="`cursor` of the next page; null on the last"
    )


def record_fields(record: Record, model_info: ModelInfo | None) -> dict[str, Any]:
    """What the bodies of a stored image have in common."""
    return {
        "id": record.id,
        "sha256": record.sha256,
        "fingerprint": record.fingerprint,
        **model_fields(model_info),
        "tokens": TokensBody.of(record),
        "width_px": record.width_px,
        "height_px": record.height_px,
        "created_at_ms": record.created_at_ms,
        "metadata": dict(record.metadata),
    }


def model_fields(model_info: ModelInfo | None) -> dict[str, str | None]:
    """What made an image's tokens, where that is known."""
    return {
        "model": model_info.model if model_info else None,
        "mode": model_info.mode if model_info else None,
    }
