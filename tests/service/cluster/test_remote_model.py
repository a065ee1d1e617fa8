"""The model behind replicas: what is lost on the way, and what a bad item costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from compressor.errors import CompressorError, ImageRefused
from compressor.ports import Summary
from service.api_keys import ApiKeys
from service.cluster.model_replicas import each_alone_on_failure
from service.cluster.remote_model import ModelFacts, StateFile, remote_models
from service.cluster.service_replica import ServiceReplica
from service.errors import ModelFailed, NoApiKey, ServiceNotStarted
from service.models import Models
from service.settings import Settings
from tests.fakes.model import FakeGenerator, FakeSummaryModel, Gate, fake_models
from tests.fakes.text_reader import FakeTextReader, spelled
from tests.service.cluster.local_replicas import local_deployments
from tests.service.conftest import ask, ids, in_background, search, uploaded

RED, BLUE = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")


class Squeamish(FakeSummaryModel):
    """Refuses blue pictures, and breaks down at white ones."""

    def compress(self, images: Sequence[Image.Image]) -> Summary:
        """See SummaryModel."""
        for number, image in enumerate(images):
            match image.getpixel((0, 0)):
                case (0, 0, 255):
                    raise ImageRefused(number, "too blue")
                case (255, 255, 255):
                    raise CompressorError("too white")
        return super().compress(images)


def squeamish(_: Settings) -> Models:
    return Models(Squeamish(), FakeGenerator())


def test_a_refused_picture_is_named_by_its_place(tmp_path: Path) -> None:
    models = remote_models(*local_deployments(Settings(), squeamish), tmp_path)
    with pytest.raises(ImageRefused) as refused:
        models.summary.compress([RED, RED, BLUE])
    assert (refused.value.index, refused.value.reason) == (2, "too blue")


def test_errors_of_the_model_arrive_as_they_were(tmp_path: Path) -> None:
    models = remote_models(*local_deployments(Settings(), squeamish), tmp_path)
    with pytest.raises(CompressorError, match="too white"):
        models.summary.compress([RED, Image.new("RGB", (8, 8), "white")])


def test_a_bad_item_costs_its_neighbours_nothing() -> None:
    def halves(numbers: Sequence[int]) -> list[int]:
        if any(number % 2 for number in numbers):
            raise ValueError("odd")
        return [number // 2 for number in numbers]

    one, odd, two = each_alone_on_failure(halves, [2, 3, 4])
    assert (one, two) == (1, 2)
    assert isinstance(odd, ValueError)
    (short,) = each_alone_on_failure(lambda _: [], ["item"])
    assert isinstance(short, ModelFailed)


def test_all_that_is_known_of_a_model_comes_along(tmp_path: Path) -> None:
    state, curves = tmp_path / "sq8.npz", tmp_path / "calibration.json"
    state.write_bytes(b"state")
    curves.write_bytes(b"curves")

    def make_models(_: Settings) -> Models:
        return Models(
            FakeSummaryModel(),
            FakeGenerator(),
            codec_state=state,
            calibration=curves,
            text_reader=FakeTextReader(),
            reads_text=False,
            kept_tokens=2,
            is_warm=True,
        )

    kept = tmp_path / "kept"
    models = remote_models(*local_deployments(Settings(), make_models), kept)
    state.unlink()
    curves.unlink()
    assert models.codec_state is not None
    assert models.calibration is not None
    assert models.text_reader is not None
    assert models.codec_state == kept / "sq8.npz"
    assert models.codec_state.read_bytes() == b"state"
    assert models.calibration.read_bytes() == b"curves"
    assert models.text_reader.read(spelled(["one", "two"])) == ["one", "two"]
    assert not models.reads_text
    assert models.kept_tokens == 2
    assert models.is_warm
    for name, default in Models._field_defaults.items():
        assert getattr(models, name) != default, f"{name} did not come along"


def test_a_model_without_state_has_none() -> None:
    facts = ModelFacts.of(fake_models(None))
    assert facts.codec_state is facts.calibration is StateFile.read(None) is None
    assert not facts.has_text_reader


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_service_waits_for_every_part_of_the_model(tmp_path: Path, late: int) -> None:
    gate = Gate()
    deployments = local_deployments(Settings(), fake_models)
    call = deployments[late].call

    def once_loaded(method: str) -> Any:
        gate.pass_through()
        return call(method)

    deployments[late].call = once_loaded  # type: ignore[method-assign]
    with in_background(lambda: remote_models(*deployments, tmp_path)) as made:
        gate.wait_for_arrival()
        assert made == []
        gate.opened.set()
    assert made[0].summary.fingerprint == FakeSummaryModel.fingerprint


def test_the_application_runs_over_remote_models(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, store="memory")
    replica = ServiceReplica(settings, *local_deployments(settings, fake_models))
    with TestClient(replica.app()) as client:
        client.portal.call(replica.check_health)  # type: ignore[union-attr]
        (red,) = ids(uploaded(client, "red"))
        (blue,) = ids(uploaded(client, "blue"))
        assert ids(search(client, "blue"))[0] == blue
        assert ask(client, "which colour?", image_ids=[red])["answer"] == "I see red."
        with client.stream(
            "POST",
            "/ask",
            json={"image_ids": [blue], "question": "which colour?"},
            headers={"Accept": "text/event-stream"},
        ) as stream:
            events = stream.read().decode()
        assert "blue" in events


def test_a_replica_that_cannot_start_says_why(tmp_path: Path) -> None:
    def broken(_: str) -> None:
        raise CompressorError("the weights are gone")

    settings = Settings(data_dir=tmp_path, store="memory")
    first_pass, text, second = local_deployments(settings, fake_models)
    first_pass.call = broken  # type: ignore[method-assign]
    replica = ServiceReplica(settings, first_pass, text, second)
    with TestClient(replica.app()) as client, pytest.raises(ServiceNotStarted) as told:
        client.portal.call(replica.check_health)  # type: ignore[union-attr]
    assert str(told.value) == "the weights are gone"


def test_an_open_service_without_a_key_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, store="memory", host="0.0.0.0")
    with pytest.raises(NoApiKey):
        ServiceReplica(settings, *local_deployments(settings, fake_models))


def test_keys_of_the_data_folder_hold_in_every_replica(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, store="memory", host="0.0.0.0")
    keys = ApiKeys(tmp_path)
    _, secret = keys.create("operator", "read")
    replica = ServiceReplica(settings, *local_deployments(settings, fake_models))
    with TestClient(replica.app()) as client:
        client.portal.call(replica.check_health)  # type: ignore[union-attr]
        assert client.get("/images").status_code == 401
        client.headers["Authorization"] = f"Bearer {secret}"
        assert client.get("/images").status_code == 200
    keys.close()
