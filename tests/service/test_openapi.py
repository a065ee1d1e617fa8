"""The description of the API is a contract: it changes on purpose or not at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from service.app import create_app
from service.runtime import Runtime
from service.settings import Settings
from tests.docs.routes_page import routes_page
from tests.fakes.model import fake_models

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


if __name__ == "__main__" and "--write" in sys.argv:
    GOLDEN.write_text(described())
    PAGE.write_text(routes_page(json.loads(described())))
