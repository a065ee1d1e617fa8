"""Date, camera and place of photographs, from the upload to lists and searches."""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient
from PIL import ExifTags

from tests.service.conftest import ids, listed, search, send, statuses
from tests.service.use_cases.test_exif import VIENNA, photograph, with_block

TAKEN = ["2021:05:01 00:00:00", "2023:05:01 00:00:00", "2022:05:01 00:00:00"]


def dated(date: str) -> bytes:
    details = {ExifTags.Base.DateTimeOriginal: date}
    return photograph({ExifTags.Base.Model: "X100"}, details, VIENNA)


def sent(client: TestClient, *contents: bytes, **fields: Any) -> list[dict[str, Any]]:
    response = send(client, *contents, **fields)
    images: list[dict[str, Any]] = response.json()["images"]
    assert statuses(images) == ["created"] * len(contents)
    return images


def test_exif_is_stored_filtered_and_ordered_by(client: TestClient) -> None:
    undated = photograph()
    images = sent(client, *map(dated, TAKEN), undated)
    first, second, third, last = ids(images)
    assert images[0]["metadata"]["exif"]["camera"] == "X100"
    assert images[0]["notes"] == []
    assert ids(listed(client, order="taken")) == [second, third, first]
    page = client.get("/images", params={"order": "taken", "limit": 2}).json()
    rest = listed(client, order="taken", cursor=page["next_cursor"])
    assert ids(rest) == [first]
    assert ids(listed(client, order="taken", id_prefix=third)) == [third]
    assert listed(client, order="taken", id_prefix=last) == []
    where = {
        "exif.taken_at": {"gte": "2022", "lt": "2023"},
        "exif.camera": "X100",
        "exif.latitude": {"gt": 48},
    }
    assert ids(listed(client, where=json.dumps(where))) == [third]
    hits = search(client, "red", order="taken")
    assert ids(hits) == [second, third, first, last]


def test_what_the_upload_says_itself_stands(client: TestClient) -> None:
    (image,) = sent(client, dated(TAKEN[0]), metadata='{"exif": {}}')
    assert image["metadata"] == {"exif": {}}


def test_a_broken_block_is_noted_and_the_picture_stored(client: TestClient) -> None:
    (image,) = sent(client, with_block(b"Exif\0\0broken"))
    assert image["metadata"] == {}
    assert image["notes"] == ["The EXIF block is damaged; it was ignored."]
