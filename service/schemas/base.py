"""What the bodies of all routes share: texts, times, problems and limits of pages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_LIMIT = 200


MAX_OFFSET = 10_000


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # JSON can spell half of a surrogate pair, which UTF-8 cannot.
        raise ValueError("has half of a surrogate pair") from error
    return text


Text = Annotated[str, AfterValidator(_unicode)]


TimingsMs = Annotated[
    dict[str, float], Field(description="Milliseconds by stage, and in all.")
]


class Input(BaseModel):
    """Base of request bodies: an unknown member is an error and not a silent nothing."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Problem(BaseModel):
    """What every error looks like (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="URN of the kind of problem: `urn:precis:problem:…`")
    title: str = Field(description="what this kind of problem is, in a few words")
    status: int = Field(description="HTTP status")
    detail: str | None = Field(
        None,
        description="what is wrong with this request, and what to do; null where only"
        " the log may say",
    )
    request_id: str = Field(
        description="the same as in the header `X-Request-ID` and in the log"
    )


class FileProblem(BaseModel):
    """Why one file of an upload was not stored."""

    type: str = Field(description="URN of the kind of problem")
    title: str = Field(description="what this kind of problem is, in a few words")
    status: int = Field(description="HTTP status that the file would have had alone")
    detail: str = Field(description="what is wrong with this file")


class HealthBody(BaseModel):
    """The service is alive, or ready."""

    status: Literal["alive", "ready"] = Field(
        description="`alive` as soon as it listens, `ready` once the model is loaded"
    )
