"""The API's description: the framework's own, with our errors, and links between operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.openai_schemas import OpenAiError, OpenAiErrorDetail
from service.openapi_examples import PARAMETERS, REQUESTS, RESPONSES
from service.problems import MEDIA_TYPE
from service.schemas.base import Problem

_SCHEMAS = "#/components/schemas/"
# The framework's own bodies of errors, which the service never sends.
_UNUSED_SCHEMAS = ("HTTPValidationError", "ValidationError")


@dataclass(frozen=True)
class _Link:
    """Operations that can follow an answer, and where their parameter stands in it."""

    operation: str
    statuses: tuple[str, ...]
    parameter: str
    value: str  # a runtime expression of OpenAPI
    next: tuple[str, ...]


_OF_IMAGE = (
    "get_image",
    "get_thumbnail",
    "get_original",
    "get_view",
    "get_tokens",
    "similar_images",
    "set_metadata",
    "delete_image",
)
_OF_JOB = ("get_job", "cancel_job")
_FIRST_IMAGE = "$response.body#/images/0/id"
_ID = "$response.body#/id"
_LINKS = (
    _Link("add_images", ("200", "201"), "image_id", _FIRST_IMAGE, _OF_IMAGE),
    _Link("add_images", ("202",), "job_id", _ID, _OF_JOB),
    _Link("add_tokens", ("200", "201"), "image_id", _FIRST_IMAGE, _OF_IMAGE),
    _Link("list_images", ("200",), "image_id", _FIRST_IMAGE, _OF_IMAGE),
    _Link("list_jobs", ("200",), "job_id", "$response.body#/jobs/0/id", _OF_JOB),
    _Link("import_pictures", ("202",), "job_id", _ID, _OF_JOB),
    _Link(
        "create_collection",
        ("201",),
        "name",
        "$response.body#/name",
        ("delete_collection",),
    ),
    _Link(
        "list_models", ("200",), "model", "$response.body#/data/0/id", ("get_model",)
    ),
)


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of an app, as OpenAPI 3.1."""
    schema = get_openapi(
        title=app.title, summary=app.summary, version=app.version, routes=app.routes
    )
    operations: dict[str, dict[str, Any]] = {}
    for path, operations_of_path in schema["paths"].items():
        fault = _fault(path)
        for operation in operations_of_path.values():
            operations[operation["operationId"]] = operation
            operation["responses"].pop("422", None)
            operation["responses"] |= {"4XX": fault, "5XX": fault}
            # A form without any part is still a form.
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True
    for link in _LINKS:
        _add_links(operations, link)
    _add_examples(operations)
    components = schema["components"]["schemas"]
    for model in (Problem, OpenAiErrorDetail, OpenAiError):
        described = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
        described.pop("$defs", None)
        components[model.__name__] = described
    for unused in _UNUSED_SCHEMAS:
        components.pop(unused, None)
    return schema


def _fault(path: str) -> dict[str, Any]:
    """The answer of a path where something is wrong."""
    if path.startswith("/v1/"):
        content = {"application/json": {"schema": {"$ref": _SCHEMAS + "OpenAiError"}}}
        return {"description": "An error.", "content": content}
    content = {MEDIA_TYPE: {"schema": {"$ref": _SCHEMAS + "Problem"}}}
    return {"description": "A problem.", "content": content}


def _add_links(operations: dict[str, dict[str, Any]], link: _Link) -> None:
    for status in link.statuses:
        links = operations[link.operation]["responses"][status].setdefault("links", {})
        for following in link.next:
            links[following] = {
                "operationId": following,
                "parameters": {link.parameter: link.value},
            }


def _add_examples(operations: dict[str, dict[str, Any]]) -> None:
    for name, example in REQUESTS.items():
        content = operations[name]["requestBody"]["content"]
        content["application/json"]["example"] = example
    for (name, status), example in RESPONSES.items():
        content = operations[name]["responses"][status]["content"]
        content["application/json"]["example"] = example
    for operation in operations.values():
        for parameter in operation.get("parameters", []):
            key = (operation["operationId"], parameter["name"])
            if key in PARAMETERS:
                parameter["example"] = PARAMETERS[key]
