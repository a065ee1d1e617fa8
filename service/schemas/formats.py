"""The forms that an answer can be asked for in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from compressor.ports import Choice, Constraint, JsonSchema, Number
from service.errors import InvalidInput
from service.schemas.base import Input, Text

MAX_SCHEMA_CHARS = 16_384


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("has characters that are not printable, or spaces around it")
    return text


class YesNoFormat(Input):
    """The answer is `Yes` or `No`."""

    type: Literal["yes_no"] = Field(description="the answer is `Yes` or `No`")

    def constraint(self) -> Constraint:
        """For the generator."""
        return Choice(("Yes", "No"))


class ChoiceFormat(Input):
    """The answer is one of these texts."""

    type: Literal["choice"] = Field(description="the answer is one of `options`")
    options: list[
        Annotated[Text, Field(min_length=1, max_length=200), AfterValidator(_printable)]
    ] = Field(min_length=1, max_length=100, description="the texts to choose from")

    def constraint(self) -> Constraint:
        """For the generator."""
        return Choice(tuple(self.options))


class NumberFormat(Input):
    """The answer is a decimal number."""

    type: Literal["number"] = Field(description="the answer is a decimal number")

    def constraint(self) -> Constraint:
        """For the generator."""
        return Number()


class JsonFormat(Input):
    """The answer is JSON as a JSON schema says, without white space between its parts."""

    type: Literal["json_schema"] = Field(description="the answer is JSON")
    json_schema: dict[str, Any] = Field(
        alias="schema", description="the JSON schema that the answer follows"
    )

    def constraint(self) -> Constraint:
        """For the generator. Raises InvalidInput."""
        return json_constraint(self.json_schema)


def json_constraint(schema: Mapping[str, Any]) -> JsonSchema:
    """The constraint of a JSON schema. Raises InvalidInput for one that is too long or deep."""
    try:
        text = json.dumps(schema)
    except RecursionError as error:
        raise InvalidInput("The schema is nested too deep.") from error
    if len(text) > MAX_SCHEMA_CHARS:
        raise InvalidInput(f"A schema has at most {MAX_SCHEMA_CHARS} characters.")
    return JsonSchema(text)


AnswerFormat = Annotated[
    YesNoFormat | ChoiceFormat | NumberFormat | JsonFormat, Field(discriminator="type")
]
