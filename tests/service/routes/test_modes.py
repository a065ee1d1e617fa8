"""Records say what made their tokens, those of an older model too."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from compressor.ports import Mode, ModelDescription
from service.commands.flags import settings_from_flags
from service.models import model_factory
from service.settings import Settings
from tests.compressor.production import llava
from tests.fakes.model import TOKEN_COUNT, FakeSummaryModel
from tests.service.conftest import (
    Start,
    add,
    ask,
    factory,
    files,
    listed,
    picture,
    record,
    search,
    search_image,
    stop,
    upload,
    uploaded,
)


class OtherModel(FakeSummaryModel):
    fingerprint = "e" * 64
    description = ModelDescription(
        "other colours", "soft words, one by one", (TOKEN_COUNT,)
    )


def made_by(body: dict[str, object]) -> tuple[object, object]:
    return body["model"], body["mode"]


def test_every_view_of_an_image_says_it(client: TestClient) -> None:
    expected = ("fake colours", "adapters")
    (uploaded,) = upload(client, "red").json()["images"]
    path = f"/images/{uploaded['id']}"
    (found,) = search_image(client, "red")
    asked = ask(client, "What is there?")["images"][0]
    named = client.post(
        "/ask", json={"question": "What is there?", "image_ids": [uploaded["id"]]}
    ).json()["images"][0]
    views = [
        uploaded,
        client.get(path).json(),
        client.put(f"{path}/metadata", json={}).json(),
        listed(client)[0],
        search(client, "red")[0],
        found,
        asked,
        named,
    ]
    for view in views:
        assert made_by(view) == expected


def test_records_of_an_older_model_still_tell_theirs(start: Start) -> None:
    first = start()
    (red,) = add(first, "red")
    stop(first)
    second = start(factory(OtherModel()))
    (blue,) = add(second, "blue")
    assert made_by(record(second, red)) == ("fake colours", "adapters")
    assert made_by(record(second, blue)) == (
        "other colours",
        "soft words, one by one",
    )


def test_collections_say_it_as_well(start: Start) -> None:
    first = start()
    first.put("/collections/some")
    first.post("/images?collection=some", files=files(picture("red")))
    stop(first)
    second = start(factory(OtherModel()))
    (image,) = second.get("/images?collection=some").json()["images"]
    assert made_by(image) == ("fake colours", "adapters")


# A shared store has had the notes from its beginning.
@pytest.mark.deployments("single")
def test_of_a_model_that_was_never_noted_nothing_is_said(
    start: Start, data_dir: Path
) -> None:
    """A library as an earlier version left it."""
    first = start()
    (red,) = add(first, "red")
    stop(first)
    (data_dir / "makers" / f"{FakeSummaryModel.fingerprint}.json").unlink()
    second = start(factory(OtherModel()))
    assert made_by(record(second, red)) == (None, None)


@pytest.mark.parametrize(
    ("soft_words", "mode"),
    [("parallel", "soft words"), ("sequential", "soft words, one by one")],
)
def test_the_setting_chooses_how_soft_words_are_made(
    start: Start, tmp_path: Path, soft_words: str, mode: Mode
) -> None:
    folder = tmp_path / "llava"
    for part in llava():
        part.save_pretrained(folder)
    client = start(model_factory("lvlm"), model_dir=folder, soft_words=soft_words)
    (image,) = uploaded(client, "red")
    assert image["mode"] == mode
    assert image["model"].startswith("llava@")
    asked = client.post(
        "/ask",
        json={"question": "What is this?", "image_ids": [image["id"]], "max_tokens": 4},
    )
    assert asked.json()["images"][0]["mode"] == mode


def test_the_setting_does_not_go_with_adapters() -> None:
    with pytest.raises(ValueError, match="without adapters"):
        Settings(soft_words="sequential", adapters=Path("adapters"))
    assert settings_from_flags({"soft_words": "sequential"}).soft_words == "sequential"
