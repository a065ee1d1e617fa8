"""Bodies of the routes under /v1, in OpenAI's shapes. Members that we do not know are ignored.

Our own part of an answer is its member `precis`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compressor.ports import Constraint
from service.errors import InvalidInput
from service.problems import OpenAiMembers
from service.schemas.ask import SourceBody
from service.schemas.base import Text, TimingsMs
from service.schemas.formats import json_constraint
from service.use_cases.ask import Answer
from service.use_cases.chat import Message

# Members that would change the answer, and that we cannot honour.
_UNSUPPORTED = (
    "audio", "background", "conversation", "frequency_penalty", "functions", "logit_bias",
    "logprobs", "prediction", "presence_penalty", "previous_response_id", "prompt", "stop", "tools",
    "top_logprobs", "web_search_options",
)  # fmt: skip
MAX_STOP_SEQUENCES = 4


class OpenAiInput(BaseModel):
    """Base of request bodies."""

    model_config = ConfigDict(extra="allow")
    members: ClassVar = OpenAiMembers("input")

    model: Text = Field(description="a name of `GET /v1/models`, or `precis`")

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, body: Any) -> Any:
        # OpenAI's interface allows null for whatever is optional.
        if not isinstance(body, dict):
            return body
        return {name: value for name, value in body.items() if value is not None}

    def refuse_unsupported(self) -> None:
        """Raises InvalidInput for a member that we cannot honour."""
        extra = self.model_extra or {}
        for name in _UNSUPPORTED:
            if extra.get(name):
                raise InvalidInput(f"`{name}` is not supported.", param=name)


class SampledInput(OpenAiInput):
    """Base of request bodies that are answered with a text."""

    # Decoding is greedy, so an answer is always one that sampling could give.
    temperature: float | None = Field(
        None, ge=0, le=2, description="without effect: decoding is greedy"
    )
    top_p: float | None = Field(
        None, ge=0, le=1, description="without effect: decoding is greedy"
    )


def constraint_of(format: Mapping[str, Any] | None, param: str) -> Constraint | None:
    """The constraint of an answer format in either shape; None for text. `param` is its member.

    Raises InvalidInput for a format that we do not know.
    """
    if not format or format == {"type": "text"}:
        return None
    if format.get("type") == "json_object":
        return json_constraint({"type": "object"})
    # /v1/chat/completions nests what /v1/responses does not.
    named = format.get("json_schema", format)
    schema = named.get("schema") if isinstance(named, dict) else None
    if format.get("type") != "json_schema" or not isinstance(schema, dict):
        raise InvalidInput(
            "The format of an answer is text, json_object, or json_schema with a schema.",
            param=param,
        )
    try:
        return json_constraint(schema)
    except InvalidInput as error:
        raise InvalidInput(str(error), param=param) from error


class OpenAiEmbeddingsInput(OpenAiInput):
    """Texts to embed."""

    input: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="a text, or several"
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float",
        description="numbers, or their bytes (float32, little-endian) in base64",
    )
    dimensions: int | None = Field(
        None, description="length of the vectors; only the model's own is possible"
    )


class ImageUrl(BaseModel):
    """The address of an image."""

    url: Text = Field(description="`precis://ID`, or a data URI in base64")


class TextPart(BaseModel):
    """A piece of a message's text."""

    type: Literal["text", "input_text", "output_text"] = Field(
        description="a text; the three names mean the same"
    )
    text: Text = Field(description="the text")


class ImagePart(BaseModel):
    """An image in a message to /v1/chat/completions."""

    type: Literal["image_url"] = Field(description="an image")
    image_url: ImageUrl = Field(description="where the image is")


class InputImagePart(BaseModel):
    """An image in a message to /v1/responses."""

    type: Literal["input_image"] = Field(description="an image")
    image_url: Text = Field(description="`precis://ID`, or a data URI in base64")


Part = Annotated[TextPart | ImagePart | InputImagePart, Field(discriminator="type")]


class MessageInput(BaseModel):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="who speaks; `developer` is read as `system`"
    )
    content: Text | list[Part] | None = Field(
        None, description="a text, or texts and images"
    )

    def message(self) -> Message:
        """The use case's message."""
        role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str) or self.content is None:
            return Message(role, self.content or "")
        texts: list[str] = []
        images: list[str] = []
        for part in self.content:
            match part:
                case TextPart(text=text):
                    texts.append(text)
                case ImagePart(image_url=address):
                    images.append(address.url)
                case InputImagePart(image_url=url):
                    images.append(url)
        return Message(role, "\n".join(texts), images)


class StreamOptions(BaseModel):
    """What a stream should have besides the answer."""

    include_usage: bool = Field(
        False, description="end the stream with the number of tokens"
    )


StopSequence = Annotated[Text, Field(min_length=1)]


class ChatInput(SampledInput):
    """A conversation."""

    members: ClassVar = OpenAiMembers("messages", "response_format")

    messages: list[MessageInput] = Field(
        min_length=1, description="the conversation, oldest message first"
    )
    max_tokens: int | None = Field(
        None, ge=1, description="longest answer, in tokens; OpenAI's older name"
    )
    max_completion_tokens: int | None = Field(
        None,
        ge=1,
        description="longest answer, in tokens; more than PRECIS_MAX_ANSWER_TOKENS is"
        " cut down to it",
    )
    n: Literal[1] = Field(1, description="one answer: decoding is greedy")
    seed: int | None = Field(
        None, description="without effect: the same request has the same answer"
    )
    stop: (
        StopSequence
        | Annotated[list[StopSequence], Field(max_length=MAX_STOP_SEQUENCES)]
    ) = Field([], description="the answer ends before the first of these texts")
    stream: bool = Field(False, description="answer as server-sent events")
    stream_options: StreamOptions | None = Field(
        None, description="what a stream has besides the answer"
    )
    response_format: dict[str, Any] | None = Field(
        None, description="`text`, `json_object`, or `json_schema` with a schema"
    )

    def stop_sequences(self) -> list[str]:
        """The texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def limit(self, most: int) -> int:
        """Tokens of the answer at most; a larger wish is cut down to `most`."""
        return min(self.max_completion_tokens or self.max_tokens or most, most)


class TextOptions(BaseModel):
    """What the text of an answer should be like."""

    format: dict[str, Any] | None = Field(
        None, description="`text`, `json_object`, or `json_schema` with a schema"
    )


class ResponsesInput(SampledInput):
    """A conversation, in the shape of the Responses API."""

    members: ClassVar = OpenAiMembers("input", "text.format")

    input: Text | list[MessageInput] = Field(
        description="a question, or a conversation with its oldest message first"
    )
    instructions: Text | None = Field(
        None, description="what the model is told before the conversation"
    )
    max_output_tokens: int | None = Field(
        None,
        ge=1,
        description="longest answer, in tokens; more than PRECIS_MAX_ANSWER_TOKENS is"
        " cut down to it",
    )
    stream: bool = Field(False, description="answer as server-sent events")
    text: TextOptions | None = Field(
        None, description="what the text of the answer should be like"
    )

    def messages(self) -> list[Message]:
        """The instructions and the conversation."""
        messages = [Message("system", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return [*messages, Message("user", self.input)]
        return [*messages, *(item.message() for item in self.input)]


class PrecisMembers(BaseModel):
    """What only this service says of an answer."""

    images: Sequence[SourceBody]
    timings_ms: TimingsMs

    @classmethod
    def of(cls, answer: Answer) -> dict[str, Any]:
        """The member of an answer that is complete."""
        images = [SourceBody.of_source(image) for image in answer.images]
        return cls(images=images, timings_ms=answer.timings_ms).model_dump()


class OpenAiErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="what is wrong, and what to do")
    type: str = Field(description="kind of error")
    param: str | None = Field(
        description="member of the request that is wrong; null where it is none in "
        "particular"
    )
    code: str | None = Field(
        description="the kind, more exactly; null where there is none"
    )


class OpenAiError(BaseModel):
    """What every error under /v1 looks like."""

    error: OpenAiErrorDetail = Field(description="what went wrong")
