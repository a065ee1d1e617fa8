"""The description of the API is a contract: it changes on purpose or not at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from service.app import create_app
from service.openapi_examples import REQUESTS
from service.runtime import Runtime
from service.settings import Settings
from tests.docs.routes_page import routes_page
from tests.fakes.model import fake_models
from tests.service.conftest import Start, upload

GOLDEN = Path(__file__).parents[1] / "golden" / "openapi.json"
PAGE = Path(__file__).parents[2] / "docs" / "routes.md"


def described() -> str:
    schema = create_app(Runtime(Settings(), fake_models)).openapi()
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_the_description_is_the_one_agreed_on() -> None:
    """Where a change is meant: python -m tests.service.test_openapi --write, and look at the
    difference.
    """
    assert described() == GOLDEN.read_text()


def test_the_page_of_every_route_is_made_from_it() -> None:
    assert routes_page(json.loads(GOLDEN.read_text())) == PAGE.read_text()


def test_operations_have_stable_names() -> None:
    operations = [
        operation["operationId"]
        for path in json.loads(described())["paths"].values()
        for operation in path.values()
    ]
    assert sorted(operations) == [
        "add_images", "add_tokens", "alive", "ask", "ask_library", "cancel_job",
        "create_chat_completion",
        "create_collection", "create_embeddings", "create_response", "delete_collection",
        "delete_image", "embed_texts", "get_image", "get_job", "get_model", "get_original",
        "get_thumbnail", "get_tokens", "get_view", "import_pictures", "list_collections",
        "list_images", "list_jobs",
        "list_models", "metrics", "ready", "search_by_image", "search_by_text",
        "set_metadata", "similar_images",
    ]  # fmt: skip


def test_every_parameter_and_every_property_is_described() -> None:
    undescribed = list(_undescribed(json.loads(described()), ""))
    assert undescribed == []


def _undescribed(part: Any, where: str) -> Iterator[str]:
    """Where a parameter or a property of a schema has no description."""
    if isinstance(part, list):
        for number, item in enumerate(part):
            yield from _undescribed(item, f"{where}/{number}")
    if not isinstance(part, dict):
        return
    named = {
        f"{where} {parameter['name']}": parameter
        for parameter in part.get("parameters", ())
        if isinstance(parameter, dict)
    }
    if part.get("type") == "object":
        properties = part.get("properties", {})
        named |= {f"{where} {name}": value for name, value in properties.items()}
    for place, described_part in named.items():
        if not described_part.get("description"):
            yield place
    for key, value in part.items():
        if key not in ("example", "examples"):
            yield from _undescribed(value, f"{where}/{key}")


def test_examples_are_what_their_schemas_allow() -> None:
    document = json.loads(described())
    for where, content in _contents(document):
        schema = content["schema"]
        if "example" not in content:
            # A body whose shape is OpenAI's, or free, is described elsewhere.
            assert not schema.get("$ref"), f"{where} has no example"
            continue
        validator = Draft202012Validator({**document, **schema})
        assert list(validator.iter_errors(content["example"])) == [], where


def _contents(document: Any) -> Iterator[tuple[str, Any]]:
    """JSON that a client sends, and what it gets where all is well."""
    for methods in document["paths"].values():
        for operation in methods.values():
            name = operation["operationId"]
            bodies = {"request": operation.get("requestBody", {})}
            bodies |= {
                status: response
                for status, response in operation["responses"].items()
                if status.startswith("2")
            }
            for part, body in bodies.items():
                content = body.get("content", {}).get("application/json")
                if content:
                    yield f"{name} {part}", content


@pytest.mark.parametrize("operation", sorted(REQUESTS))
def test_the_request_of_an_example_is_answered(
    operation: str, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "pictures" / "holidays").mkdir(parents=True)
    client = start(import_dir=str(tmp_path / "pictures"))
    image_id = upload(client, "red").json()["images"][0]["id"]
    for path, methods in json.loads(GOLDEN.read_text())["paths"].items():
        for method, described in methods.items():
            if described["operationId"] == operation:
                body = described["requestBody"]["content"]["application/json"]
                address = path.format(image_id=image_id)
                response = client.request(method, address, json=body["example"])
                assert response.is_success, response.text


if __name__ == "__main__" and "--write" in sys.argv:
    GOLDEN.write_text(described())
    PAGE.write_text(routes_page(json.loads(described())))
