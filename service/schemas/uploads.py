"""Bodies of uploads: what became of each file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, Field

from index.model_info import ModelInfo
from index.ports import Record
from service.schemas.base import FileProblem, TimingsMs
from service.schemas.images import ImageBody, record_fields
from service.use_cases.near_duplicates import NearDuplicate


class NearDuplicateBody(BaseModel):
    """A stored image that is nearly the same as a new one."""

    id: str = Field(description="id of the stored image")
    score: float = Field(description="cosine of the two embeddings")

    @classmethod
    def of(cls, near: NearDuplicate) -> Self:
        """From what was found."""
        return cls(id=near.id, score=near.score)


class StoredBody(ImageBody):
    """A file of an upload whose image is stored."""

    status: Literal["created", "exists"] = Field(
        description="`created`, or `exists` for a file that was stored before"
    )
    filename: str = Field(description="name of the file in the upload")
    notes: list[str] = Field(
        [], description="parts of the file, such as EXIF, that could not be read"
    )
    near_duplicates: list[NearDuplicateBody] = Field(
        [],
        description="for a new image: stored images that are nearly the same, nearest"
        " first",
    )

    @classmethod
    def of_file(
        cls,
        record: Record,
        model_info: ModelInfo | None,
        *,
        status: Literal["created", "exists"],
        filename: str,
        notes: Sequence[str] = (),
        near_duplicates: Sequence[NearDuplicate] = (),
    ) -> Self:
        """From a record, what made its tokens, and what the upload said of it."""
        return cls(
            status=status,
            filename=filename,
            notes=list(notes),
            near_duplicates=[NearDuplicateBody.of(near) for near in near_duplicates],
            **record_fields(record, model_info),
        )


class FailedBody(BaseModel):
    """A file of an upload that was not stored."""

    status: Literal["failed"] = Field(description="the file was not stored")
    filename: str = Field(description="name of the file in the upload")
    sha256: str = Field(description="SHA-256 of the file")
    error: FileProblem = Field(description="why it was not stored")


class UploadBody(BaseModel):
    """What became of each file of an upload, in order."""

    images: list[StoredBody | FailedBody] = Field(
        description="one entry for each file, in the order of the upload"
    )
    timings_ms: TimingsMs


class TokensStoredBody(BaseModel):
    """What became of each file of tokens, in order."""

    images: list[StoredBody] = Field(
        description="one entry for each file, in the order of the upload"
    )
