"""docs/routes.md, written from the OpenAPI document: every route, its parameters and its bodies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

Schema = Mapping[str, Any]

HEAD = """# Every route

This page is made from the service's OpenAPI document, `tests/golden/openapi.json`. A running
service serves the document at `/openapi.json`, and at `/docs` a form for each route. The [HTTP
interface](api.md) explains what the routes do together.

Every route also answers with a [problem](api.md#problems) in case of an error. **Scope** is what an
[API key](api.md#api-keys) must allow, once the service has keys.
"""
SCHEMAS = """
## Bodies

The JSON objects that requests and responses are made of.
"""
NOTHING_SAID = (
    "Successful Response"  # FastAPI's, where the route has no description of its own
)
REFERENCE = "#/components/schemas/"
TITLES = {"openai": "OpenAI's interface"}  # of tags that are not words


def routes_page(document: Mapping[str, Any]) -> str:
    """The page, in Markdown."""
    operations = [
        (operation["tags"][0], method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    operations.sort(key=lambda operation: operation[:1])
    lines = [HEAD]
    for tag, of_tag in groupby(operations, key=lambda operation: operation[0]):
        title = TITLES.get(tag, tag.capitalize())
        lines.append(f"## {title}\n")
        for _, method, path, operation in of_tag:
            lines += _operation(method, path, operation)
    lines.append(SCHEMAS)
    for name, schema in document["components"]["schemas"].items():
        lines += _schema(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {method} {path}\n"
    yield f"{_one_line(operation['description'])}\n"
    scopes = [
        scope
        for requirement in operation.get("security", [])
        for scope in requirement.get("HTTPBearer", [])
    ]
    if scopes:
        yield f"**Scope:** {', '.join(f'`{scope}`' for scope in scopes)}\n"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "| parameter | in | type | default | meaning |"
        yield "|---|---|---|---|---|"
        for parameter in parameters:
            schema = parameter["schema"]
            default = "required" if parameter["required"] else _default(schema)
            meaning = parameter.get("description", schema.get("description", ""))
            yield _row(
                f"`{parameter['name']}`",
                parameter["in"],
                _type(schema),
                default,
                meaning,
            )
        yield ""
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"**Body:** `{kind}`, {_type(body['schema'])}\n"
    for status, response in operation["responses"].items():
        if status.isdecimal():
            bodies = ", ".join(_contents(response.get("content", {}))) or "no body"
            meaning = _one_line(response["description"])
            more = "" if meaning == NOTHING_SAID else f". {meaning}"
            yield f"**{status}:** {bodies}{more}\n"


def _contents(content: Mapping[str, Any]) -> Iterator[str]:
    for kind, body in content.items():
        schema = body.get("schema")
        yield f"`{kind}`, {_type(schema)}" if schema else f"`{kind}`"


def _schema(name: str, schema: Schema) -> Iterator[str]:
    yield f"### {name}\n"
    if "description" in schema:
        yield f"{_one_line(schema['description'])}\n"
    required = schema.get("required", [])
    yield "| member | type | default | meaning |"
    yield "|---|---|---|---|"
    for member, of_member in schema.get("properties", {}).items():
        default = "required" if member in required else _default(of_member)
        meaning = of_member.get("description", "")
        yield _row(f"`{member}`", _type(of_member), default, meaning)
    yield ""


def _type(schema: Schema) -> str:
    """The type in words, with a link to the object that it is."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REFERENCE)
        return f"[{name}](#{name.lower()})"
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[union])))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    name = str(schema.get("type", "any"))
    return f"{name}{_limits(schema)}"


def _limits(schema: Schema) -> str:
    limits = [
        f"{sign} {schema[key]:g}"
        for sign, keys in {
            "≥": ("minimum", "minLength"),
            ">": ("exclusiveMinimum",),
            "≤": ("maximum", "maxLength"),
        }.items()
        for key in keys
        if key in schema
    ]
    return f" ({', '.join(limits)})" if limits else ""


def _default(schema: Schema) -> str:
    default = schema.get("default")
    return "" if default is None else f"`{json.dumps(default)}`"


def _row(*cells: str) -> str:
    escaped = (_one_line(cell).replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _one_line(text: str) -> str:
    return " ".join(text.split())
