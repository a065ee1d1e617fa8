"""Bodies of questions and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from service.schemas.base import Input, Text, TimingsMs
from service.schemas.formats import AnswerFormat
from service.schemas.images import MODE, model_fields
from service.use_cases.ask import Source
from service.use_cases.ask_library import Citation


class TurnInput(Input):
    """A turn of a conversation."""

    role: Literal["user", "assistant"] = Field(description="who said it")
    text: Text = Field(description="what was said")


class QuestionInput(Input):
    """A question about images."""

    question: Text = Field(description="the question")
    where: dict[str, Any] | None = Field(
        None, description="search only images whose metadata pass this filter"
    )
    tags: list[Text] = Field(
        [], max_length=32, description="search only images that have all these tags"
    )
    history: list[TurnInput] = Field(
        [],
        description="the conversation that the question continues, oldest turn first",
    )
    max_tokens: int = Field(64, ge=1, description="longest answer, in tokens")
    format: AnswerFormat | None = Field(
        None, description="the form that the answer must have; any by default"
    )
    stream: bool = Field(False, description="answer as server-sent events")


class AskInput(QuestionInput):
    """A question about images: those named, or those that a search for the question finds."""

    image_ids: list[Text] | None = Field(
        None,
        min_length=1,
        description="ids of the images to ask about; left out, a search for the "
        "question finds them",
    )
    limit: int = Field(
        1,
        ge=1,
        description="how many images the search finds, where `image_ids` is left out",
    )


class LibraryInput(QuestionInput):
    """A question about the whole library."""

    limit: int | None = Field(
        None,
        ge=1,
        description="how many images to answer from, at most PRECIS_MAX_ASK_IMAGES; 4"
        " by default",
    )


class SourceBody(BaseModel):
    """An image that an answer was made from."""

    id: str = Field(description="id of the image")
    score: float | None = Field(
        description="cosine to the question; null for an image that the caller named"
    )
    model: str | None = Field(description="name of the model that compressed it")
    mode: str | None = Field(description=MODE)

    @classmethod
    def of_source(cls, source: Source) -> Self:
        """From an image that an answer was made from."""
        return cls(id=source.id, score=source.score, **model_fields(source.model_info))


class UsageBody(BaseModel):
    """Tokens that the second pass read and wrote."""

    prompt_tokens: int = Field(
        description="tokens of the prompt, summary tokens included"
    )
    completion_tokens: int = Field(description="tokens of the answer")


class AnswerBody(BaseModel):
    """An answer and what it was made from."""

    answer: str = Field(description="the answer")
    images: Sequence[SourceBody] = Field(
        description="the images that the answer was made from"
    )
    source: Literal["model", "ocr", "rule"] = Field(
        description="what answered: `model`, from the summary tokens; `ocr`, the "
        "model with the text that was read in the pictures; `rule`, where"
        " the question is about text that nobody has read"
    )
    confidence: float | None = Field(
        description="probability that the answer is right; the mean probability of "
        "its tokens where the model has no calibration of answers; null "
        "where the generator knows neither"
    )
    unsure: bool | None = Field(
        description="whether `confidence` is below the threshold of the calibration; "
        "null where there is none"
    )
    finish_reason: Literal["stop", "length"] = Field(
        description="`stop` at the end of the answer, `length` where it was cut off "
        "at `max_tokens`"
    )
    usage: UsageBody = Field(description="what the answer cost, in tokens")
    timings_ms: TimingsMs


class CitationBody(SourceBody):
    """An image that an answer from the whole library was made from."""

    answer: str | None = Field(
        description="what this image alone answers; null where it could not be asked"
    )
    confidence: float | None = Field(description="confidence of that answer")
    cited: bool | None = Field(
        description="whether this image alone gives the answer; null where it could not be "
        "asked, and where the answer is that the model cannot tell"
    )

    @classmethod
    def of_citation(cls, citation: Citation, answer: str) -> Self:
        """From an image that this answer was made from."""
        source = citation.source
        return cls(
            id=source.id,
            score=source.score,
            answer=None if citation.answer is None else citation.answer.strip(),
            confidence=citation.confidence,
            cited=citation.is_cited(answer),
            **model_fields(source.model_info),
        )


class LibraryAnswerBody(AnswerBody):
    """An answer from the whole library."""

    query: str = Field(
        description="the text that was searched for, made from the question"
    )
    images: Sequence[CitationBody] = Field(
        description="the images that the answer was made from; those with `cited` "
        "bear it out"
    )


class PieceBody(BaseModel):
    """A piece of an answer, in a stream."""

    text: str = Field(description="the next characters of the answer")
