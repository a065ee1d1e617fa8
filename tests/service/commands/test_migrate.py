"""A library made by one model is moved to another."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from compressor.ports import Summary
from service.models import MODELS, Models
from tests.fakes.model import FakeGenerator, FakeSummaryModel
from tests.service.commands.conftest import Precis
from tests.service.conftest import (
    Start,
    add,
    ask,
    asked,
    assert_problem,
    factory,
    listed,
    record,
    search,
    send,
    stop,
    uploaded,
)

Migrate = Callable[..., Result]


class OtherModel(FakeSummaryModel):
    """The same tokens under another name; counts what it looks at."""

    fingerprint = "f" * 64
    looked_at = 0

    def compress(self, images: Sequence[Image.Image]) -> Summary:
        type(self).looked_at += len(images)
        return super().compress(images)


def other_models(_settings: object) -> Models:
    return Models(OtherModel(), FakeGenerator())


@pytest.fixture
def moved(precis: Precis, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Migrate:
    """Migrates the library of the test, in place, to the other model."""
    monkeypatch.setitem(MODELS, "other", other_models)
    monkeypatch.setenv("PRECIS_MODEL", "other")
    monkeypatch.setattr(OtherModel, "looked_at", 0)
    return lambda *options: precis("migrate", "--data-dir", data_dir, *options)


@pytest.mark.parametrize("keep", ["thumbnail", "original"])
def test_images_are_made_anew_from_the_pictures_kept(
    start: Start, moved: Migrate, keep: str
) -> None:
    first = start(keep=keep)
    ids = add(first, "red", "blue")
    first.put(f"/images/{ids[0]}/metadata", json={"place": "here"})
    before = [record(first, id) for id in ids]
    stop(first)
    done = moved()
    assert done.exit_code == 0, done.output
    assert "2 images migrated." in done.output
    assert moved().exit_code == 0
    assert OtherModel.looked_at == 2  # the second time there was nothing left to do
    second = start(other_models)
    for old, id in zip(before, ids, strict=True):
        new = record(second, id)
        assert new["fingerprint"] == OtherModel.fingerprint != old["fingerprint"]
        assert new["metadata"] == old["metadata"]
        assert new["sha256"] == old["sha256"]
        response = second.get(f"/images/{id}/thumbnail")
        assert response.status_code == 200
    assert search(second, "blue")[0]["id"] == ids[1]
    assert ask(second, "a", image_ids=ids[:1])["answer"] == "I see red."


PETS = {"collection": "pets"}


def test_collections_are_moved_too(
    start: Start, moved: Migrate, tmp_path: Path
) -> None:
    first = start()
    for name in ("pets", "old"):
        first.put(f"/collections/{name}")
    uploaded(first, "red", params=PETS)
    uploaded(first, "blue", params={"collection": "old"})
    new = tmp_path / "new"
    assert "2 images migrated." in moved("--into", new).output
    first.delete("/collections/old")
    again = moved("--into", new)
    assert "1 were there already" in again.output
    second = start(other_models, data_dir=new)
    names = second.get("/collections").json()["collections"]
    assert names == [{"name": "pets"}]
    (image,) = listed(second, **PETS)
    assert image["fingerprint"] == OtherModel.fingerprint
    stop(first)
    assert "1 images migrated." in moved().output


def test_images_without_a_picture_stay_and_are_told(
    start: Start, moved: Migrate
) -> None:
    first = start(keep="none")
    (red,) = add(first, "red")
    stop(first)
    second = start()
    (blue,) = add(second, "blue")
    stop(second)
    done = moved()
    assert done.exit_code == 1
    assert "1 images migrated." in done.output
    assert "1 have no picture" in " ".join(done.output.split())
    third = start(other_models)
    assert record(third, red)["fingerprint"] == FakeSummaryModel.fingerprint
    response = asked(third, "a", image_ids=[red])
    assert_problem(response, 409, "wrong-fingerprint")
    assert ask(third, "a", image_ids=[blue])["answer"]
    # What is added again takes the old one's place.
    (again,) = uploaded(third, "red")
    assert again["status"] == "created"
    assert record(third, red)["fingerprint"] == OtherModel.fingerprint


def test_an_interrupted_move_goes_on(
    start: Start, moved: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start()
    add(first, "red", "blue", "green")
    stop(first)
    monkeypatch.setenv("PRECIS_BATCH_SIZE", "2")
    whole = OtherModel.compress

    def broken(self: OtherModel, images: Sequence[Image.Image]) -> Summary:
        if self.looked_at:
            raise KeyboardInterrupt
        return whole(self, images)

    monkeypatch.setattr(OtherModel, "compress", broken)
    assert moved().exit_code != 0
    monkeypatch.setattr(OtherModel, "compress", whole)
    assert "1 images migrated." in moved().output
    assert OtherModel.looked_at == 3


def test_the_service_goes_on_while_another_folder_is_filled(
    start: Start, moved: Migrate, data_dir: Path, tmp_path: Path
) -> None:
    first = start(keep="original")
    red, blue = add(first, "red", "blue")
    new = tmp_path / "new"

    def fill() -> Result:
        return moved("--into", new)

    done = fill()
    assert done.exit_code == 0, done.output
    assert "2 images migrated." in done.output
    # The old model still answers, and the library goes on changing.
    assert ask(first, "a", image_ids=[red])["answer"] == "I see red."
    (green,) = add(first, "green")
    first.delete(f"/images/{red}")
    first.put(f"/images/{blue}/metadata", json={"place": "here"})
    again = fill()
    assert "1 images migrated." in again.output
    assert "1 were there already; 1 have left the library since" in " ".join(
        again.output.split()
    )
    assert OtherModel.looked_at == 3
    assert list(tmp_path.glob("*copy*")) == []
    second = start(
        other_models, data_dir=new
    )  # beside the first, until callers have moved over
    images = {image["id"]: image for image in listed(second)}
    assert set(images) == {blue, green}
    assert images[blue]["metadata"] == {"place": "here"}
    assert images[green]["fingerprint"] == OtherModel.fingerprint
    assert search(second, "green")[0]["id"] == green
    assert search(first, "green")[0]["id"] == green
    stop(second)
    # Taken over by a service, the folder is a library like any other: nothing in it is overwritten.
    late = fill()
    assert late.exit_code == 1
    assert "name a new folder" in " ".join(late.output.split())


class LaterModel(OtherModel):
    """Yet another one, chosen before the move was done."""

    fingerprint = "e" * 64


def test_a_move_under_way_may_be_given_another_model(
    start: Start,
    moved: Migrate,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = start(keep="original")
    (red,) = add(first, "red")
    assert moved("--into", tmp_path / "new").exit_code == 0
    monkeypatch.setitem(MODELS, "other", factory(LaterModel()))
    again = moved("--into", tmp_path / "new")
    assert "1 images migrated." in again.output
    second = start(factory(LaterModel()), data_dir=tmp_path / "new")
    assert record(second, red)["fingerprint"] == LaterModel.fingerprint
    assert ask(second, "a", image_ids=[red])["answer"] == "I see red."


def test_images_left_behind_are_told(
    start: Start, moved: Migrate, data_dir: Path, tmp_path: Path
) -> None:
    first = start(keep="none")
    add(first, "red")
    done = moved("--into", tmp_path / "new")
    assert done.exit_code == 1
    assert "1 images are not in the new folder: 1 have no picture" in " ".join(
        done.output.split()
    )


def test_the_pictures_are_those_that_were_uploaded(
    start: Start, moved: Migrate
) -> None:
    """An upload on its side is stored upright; migrated, it must not be turned again."""
    sideways = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    sideways.save(buffer, "JPEG", exif=exif)
    first = start(keep="original")
    (image,) = send(first, buffer.getvalue()).json()["images"]
    size = record(first, image["id"])
    stop(first)
    assert moved().exit_code == 0
    after = record(start(other_models), image["id"])
    for name in ("width_px", "height_px"):
        assert after[name] == size[name]
    assert np.ptp([after["width_px"], after["height_px"]]) == 20
