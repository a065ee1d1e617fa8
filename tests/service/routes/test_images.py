"""Upload, list, read and delete, through HTTP."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from compressor.errors import ImageRefused
from compressor.ports import Summary
from service.errors import RequestCancelled
from service.runtime import Runtime
from service.use_cases.ingest import Upload
from service.worker.request_context import RequestContext
from tests.fakes.model import (
    TOKEN_COUNT,
    TOKEN_DIM,
    FakeSummaryModel,
    InterruptedModel,
)
from tests.service.conftest import (
    Body,
    Start,
    add,
    assert_problem,
    counting,
    factory,
    files,
    ids,
    listed,
    picture,
    record,
    search,
    send,
    statuses,
    stop,
    upload,
    uploaded,
)


def test_a_picture_is_stored_and_described(client: TestClient) -> None:
    data = picture("red", (40, 30))
    response = send(client, data, metadata='{"from": "a test"}')
    assert response.status_code == 201
    (image,) = response.json()["images"]
    digest = hashlib.sha256(data).hexdigest()
    assert image["sha256"] == digest
    assert image["id"] == digest[:32]
    assert image["status"] == "created"
    assert image["filename"] == "0.png"
    assert image["fingerprint"] == FakeSummaryModel.fingerprint
    tokens = image["tokens"]
    assert tokens["count"] == TOKEN_COUNT
    assert tokens["dim"] == TOKEN_DIM
    assert tokens["codec"].startswith("sq8")
    assert 0 < tokens["bytes"] < TOKEN_COUNT * TOKEN_DIM * 4
    assert image["width_px"] == 40
    assert image["height_px"] == 30
    assert image["metadata"] == {"from": "a test"}
    assert set(response.json()["timings_ms"]) == {
        "lookup",
        "decode",
        "model",
        "store",
        "total",
    }
    for name in ("status", "filename", "notes", "near_duplicates"):
        del image[name]
    assert record(client, image["id"]) == {**image, "words": None}


def test_known_content_costs_no_model_work(start: Start) -> None:
    batches: list[int] = []
    client = start(factory(counting(batches)))
    add(client, "red")
    batches.clear()
    response = upload(client, "red")
    assert response.status_code == 200
    assert response.json()["images"][0]["status"] == "exists"
    assert batches == []


def test_old_and_new_together_are_201(client: TestClient) -> None:
    add(client, "red")
    response = upload(client, "red", "blue")
    assert response.status_code == 201
    assert statuses(response.json()["images"]) == ["exists", "created"]


def test_the_same_file_twice_in_one_upload_is_stored_once(client: TestClient) -> None:
    response = upload(client, "red", "red")
    assert response.status_code == 201
    assert statuses(response.json()["images"]) == ["created", "exists"]
    assert len(listed(client)) == 1


def test_a_bad_file_fails_alone(client: TestClient) -> None:
    response = send(client, picture("red"), b"not an image", picture("blue"), b"")
    assert response.status_code == 201
    images = response.json()["images"]
    assert statuses(images) == ["created", "failed", "created", "failed"]
    first, second = (images[1]["error"], images[3]["error"])
    assert first["type"] == "urn:precis:problem:not-an-image"
    assert first["status"] == 415
    assert second["type"] == "urn:precis:problem:empty-file"
    assert len(listed(client)) == 2


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"not an image", 415),
        (picture(format="JPEG")[:-80], 422),
    ],
    ids=["empty", "text", "truncated"],
)
def test_an_upload_of_nothing_good_is_a_problem(
    client: TestClient, content: bytes, status: int
) -> None:
    body = assert_problem(send(client, content), status, "no-image-stored")
    (image,) = body["images"]
    assert image["filename"] == "0.png"
    assert image["status"] == "failed"
    assert listed(client) == []


def test_files_that_fail_for_different_reasons_are_422(client: TestClient) -> None:
    response = send(client, b"", b"not an image")
    assert_problem(response, 422, "no-image-stored")


def test_a_bomb_is_413(start: Start) -> None:
    client = start(max_image_pixels=1000)
    bomb = picture("red", (100, 100))
    response = send(client, bomb)
    assert_problem(response, 413, "no-image-stored")
    small = picture("red", (10, 100))
    response = send(client, small)
    assert response.status_code == 201


# A cluster forms its batches at the replicas of the model.
@pytest.mark.deployments("single")
def test_many_files_go_through_in_batches(start: Start) -> None:
    batches: list[int] = []
    client = start(factory(counting(batches)), batch_size=4)
    batches.clear()
    heights = list(range(1, 11))
    pictures = [picture("red", (10, height)) for height in heights]
    images = send(client, *pictures).json()["images"]
    assert [image["height_px"] for image in images] == heights
    assert batches == [4, 4, 2]


def test_metadata_may_be_given_for_each_file(client: TestClient) -> None:
    metadata = [{"n": 1}, {"n": 2}]
    images = uploaded(client, "red", "blue", metadata=json.dumps(metadata))
    assert [image["metadata"] for image in images] == metadata


@pytest.mark.parametrize(
    "metadata",
    [
        "{",
        "[]",
        "3",
        '"text"',
        "null",
        "[1]",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a":' * 40 + "1" + "}" * 40,
        "[" * 100_000,
    ],
)
def test_metadata_that_is_no_json_object_stores_nothing(
    client: TestClient, metadata: str
) -> None:
    response = upload(client, "red", metadata=metadata)
    assert_problem(response, 422, "invalid-input")
    assert listed(client) == []


def test_an_upload_without_a_file_is_422(client: TestClient) -> None:
    part = ("a.png", picture(), "image/png")
    response = client.post("/images", files={"other": part})
    body = assert_problem(response, 422, "invalid-input")
    assert body["errors"][0]["location"] == ["body", "file"]


def test_more_files_than_allowed_are_refused(start: Start) -> None:
    client = start(max_files=2)
    response = upload(client, "red", "blue", "green")
    assert_problem(response, 400)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "image/png", "application/x-www-form-urlencoded"],
)
def test_only_multipart_is_taken(client: TestClient, content_type: str) -> None:
    response = client.post(
        "/images", content=b"x", headers={"content-type": content_type}
    )
    assert_problem(response, 415, "unsupported-media-type")


def test_multipart_without_a_boundary_is_400(client: TestClient) -> None:
    headers = {"content-type": "multipart/form-data"}
    response = client.post("/images", content=b"x", headers=headers)
    assert_problem(response, 400)


def test_the_list_is_read_page_by_page(client: TestClient) -> None:
    stored = add(client, "red", "green", "blue", "white", "black")
    paged: list[str] = []
    parameters: Body = {"limit": 2}
    while parameters.get("cursor", "") is not None:
        page = client.get("/images", params=parameters).json()
        assert len(page["images"]) <= 2
        paged += ids(page["images"])
        parameters["cursor"] = page["next_cursor"]
    assert paged == stored


@pytest.mark.parametrize("limit", ["0", "201", "NaN", "-1"])
def test_a_bad_limit_is_422(client: TestClient, limit: str) -> None:
    response = client.get("/images", params={"limit": limit})
    assert_problem(response, 422, "invalid-input")


def test_originals_are_served_where_they_are_kept(start: Start) -> None:
    client = start(keep="original")
    content = picture("red", (300, 200), "TIFF")
    (image,) = send(client, content).json()["images"]
    address = f"/images/{image['id']}"
    response = client.get(f"{address}/original")
    assert response.content == content
    assert response.headers["content-type"] == "image/tiff"
    assert response.headers["x-content-type-options"] == "nosniff"
    for side, size in ((100, (100, 66)), (1024, (300, 200))):
        response = client.get(f"{address}/view", params={"side_px": side})
        assert response.headers["content-type"] == "image/webp"
        with Image.open(io.BytesIO(response.content)) as seen:
            assert seen.size[0] == size[0]
            assert abs(seen.size[1] - size[1]) <= 1
    response = client.get(f"{address}/view", params={"side_px": 5000})
    assert_problem(response, 422, "invalid-input")


@pytest.mark.parametrize(
    ("keep", "missing"),
    [("none", ("original", "view", "thumbnail")), ("thumbnail", ("original",))],
)
def test_no_picture_is_made_up(
    start: Start, keep: str, missing: tuple[str, ...]
) -> None:
    client = start(keep=keep)
    (red,) = add(client, "red")
    for part in missing:
        response = client.get(f"/images/{red}/{part}")
        assert_problem(response, 404, "picture-not-kept")
        response = client.get(f"/images/unknown/{part}")
        assert_problem(response, 404, "image-not-found")


def test_without_an_original_the_view_is_the_thumbnail(start: Start) -> None:
    client = start(keep="thumbnail")
    (image,) = send(client, picture("red", (300, 200))).json()["images"]
    address = f"/images/{image['id']}"
    kept = client.get(f"{address}/thumbnail")
    assert client.get(f"{address}/view").content == kept.content
    response = client.get(f"{address}/view", params={"side_px": 100})
    assert response.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(response.content)) as seen:
        assert max(seen.size) == 100


def test_the_list_can_begin_with_the_newest(client: TestClient) -> None:
    red, green, blue = add(client, "red", "green", "blue")
    page = client.get("/images", params={"order": "newest", "limit": 2}).json()
    assert ids(page["images"]) == [blue, green]
    cursor = page["next_cursor"]
    assert ids(listed(client, order="newest", cursor=cursor)) == [red]
    response = client.get("/images", params={"cursor": cursor})
    assert_problem(response, 422, "bad-cursor")


def test_the_list_keeps_to_the_beginning_of_an_id(client: TestClient) -> None:
    red, green, blue = add(client, "red", "green", "blue")
    for image_id in (red, green, blue):
        for prefix in (image_id, image_id[:7]):
            assert ids(listed(client, id_prefix=prefix)) == [image_id]
    assert ids(listed(client, id_prefix="")) == [red, green, blue]
    for prefix in ("g", "%", "\0", red + "0"):
        assert listed(client, id_prefix=prefix) == []
    response = client.get("/images", params={"id_prefix": "a" * 65})
    assert_problem(response, 422, "invalid-input")


@pytest.mark.parametrize("cursor", ["x", "AAAA", "%00", "é"])
def test_a_made_up_cursor_is_422(client: TestClient, cursor: str) -> None:
    response = client.get("/images", params={"cursor": cursor})
    assert_problem(response, 422, "bad-cursor")


@pytest.mark.parametrize(
    "path",
    ["/images/nope", "/images/" + "0" * 32, "/images/nope/thumbnail", "/images/%F0%9F"],
)
def test_an_unknown_id_is_404(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert_problem(response, 404, "image-not-found")


def test_a_deleted_image_is_gone_from_everywhere(client: TestClient) -> None:
    red, blue = add(client, "red", "blue")
    response = client.delete(f"/images/{red}")
    assert response.status_code == 204
    response = client.get(f"/images/{red}")
    assert_problem(response, 404, "image-not-found")
    response = client.get(f"/images/{red}/thumbnail")
    assert_problem(response, 404, "image-not-found")
    assert ids(listed(client)) == [blue]
    assert ids(search(client, "red")) == [blue]
    response = client.delete(f"/images/{red}")
    assert_problem(response, 404, "image-not-found")
    response = upload(client, "red")
    assert response.status_code == 201


def thumbnail_of(client: TestClient, image_id: str) -> Image.Image:
    response = client.get(f"/images/{image_id}/thumbnail")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/webp"
    assert response.headers["x-content-type-options"] == "nosniff"
    return Image.open(io.BytesIO(response.content))


@pytest.mark.parametrize("keep", ["thumbnail", "original"])
def test_a_thumbnail_is_served_whatever_picture_was_kept(
    start: Start, keep: str
) -> None:
    client = start(keep=keep)
    send(client, picture("red", (1000, 500)))
    (image,) = listed(client)
    assert thumbnail_of(client, image["id"]).size == (256, 128)
    assert image["width_px"] == 1000
    assert image["height_px"] == 500


def test_without_pictures_kept_there_is_no_thumbnail(start: Start) -> None:
    client = start(keep="none")
    (image,) = add(client, "red")
    response = client.get(f"/images/{image}/thumbnail")
    assert_problem(response, 404, "picture-not-kept")


def test_images_survive_a_restart(start: Start, data_dir: object) -> None:
    first = start()
    (red,) = add(first, "red")
    stop(first)
    second = start()
    response = second.get(f"/images/{red}")
    assert response.status_code == 200
    assert search(second, "red")[0]["id"] == red


def is_blue(image: object) -> bool:
    return isinstance(image, Image.Image) and image.getpixel((0, 0)) == (0, 0, 255)


def refuse_blue(batch: Sequence[object]) -> None:
    for index, image in enumerate(batch):
        if is_blue(image):
            raise ImageRefused(index, "it is blue")


def fail_on_blue(batch: Sequence[object]) -> None:
    if any(map(is_blue, batch)):
        raise RuntimeError("secret of the house")


class BlueIsNoVector(FakeSummaryModel):
    def compress(self, images: Sequence[Image.Image]) -> Summary:
        summary = super().compress(images)
        for index, image in enumerate(images):
            if is_blue(image):
                summary.embeddings[index] = np.nan
        return summary


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (InterruptedModel(refuse_blue), "picture-refused"),
        (InterruptedModel(fail_on_blue), "file-failed"),
        (BlueIsNoVector(), "file-failed"),
    ],
    ids=["refused", "model fails", "not a vector"],
)
def test_a_file_that_fails_behind_its_decoding_fails_alone(
    start: Start, model: FakeSummaryModel, kind: str
) -> None:
    client = start(factory(model))
    images = uploaded(client, "red", "blue", "green")
    assert statuses(images) == ["created", "failed", "created"]
    error = images[1]["error"]
    assert error["type"] == f"urn:precis:problem:{kind}"
    assert "secret" not in json.dumps(error)
    assert images[1]["filename"] == "1.png"
    assert ids(listed(client)) == [images[0]["id"], images[2]["id"]]


def test_a_picture_that_the_model_refuses_is_422_wherever_it_is_sent(
    start: Start,
) -> None:
    client = start(factory(InterruptedModel(refuse_blue)))
    response = upload(client, "blue", "blue")
    body = assert_problem(response, 422, "no-image-stored")
    assert "it is blue" in body["images"][0]["error"]["detail"]
    response = client.post("/search", files=files(picture("blue")))
    assert_problem(response, 422, "picture-refused")


# A call of another process is given up at once.
@pytest.mark.deployments("single")
def test_what_the_model_has_begun_is_stored_though_the_client_has_gone(
    start: Start,
) -> None:
    context = RequestContext(30)
    armed = threading.Event()
    begun: list[object] = []

    def cancel(batch: Sequence[object]) -> None:
        if armed.is_set():
            begun.extend(batch)
            context.cancel()

    client = start(factory(InterruptedModel(cancel)), batch_size=1)
    runtime: Runtime = client.app.state.runtime
    armed.set()
    uploads = [
        Upload(colour, io.BytesIO(picture(colour)), {})
        for colour in ("red", "blue", "green")
    ]
    with pytest.raises(RequestCancelled):
        runtime.services().ingest(uploads, context)
    # The model may take the next picture before the caller has told it to stop.
    stored = {image["sha256"] for image in listed(client)}
    assert stored == {upload.sha256 for upload in uploads[: len(begun)]}
    assert begun
    assert runtime.worker.images.slots_taken == 0


def test_a_model_error_is_a_500_that_says_nothing_and_stores_nothing(
    start: Start,
) -> None:
    model = InterruptedModel(fail_on_blue)
    client = start(factory(model), raise_errors=False)
    body = assert_problem(upload(client, "blue"), 500, "internal-error")
    assert "secret" not in json.dumps(body)
    assert listed(client) == []
    response = upload(client, "red")
    assert response.status_code == 201
