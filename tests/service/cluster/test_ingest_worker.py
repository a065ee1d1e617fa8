"""A process of a bulk ingest: what it reads out of files, and what becomes of it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.errors import StoreUnreachable
from index.library import Library
from service.cluster import ingest_worker
from service.cluster.config import ClusterConfig
from service.cluster.ingest_worker import IngestWorker, read_pictures
from service.errors import WrongModel
from service.settings import Settings
from tests.fakes.model import fake_models
from tests.service.conftest import picture

MAX_BYTES = 100_000


def tar(**members: bytes) -> bytes:
    """A tar file; `__` in a name stands for a point."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def read(path: str, data: bytes) -> list[dict[str, Any]]:
    return list(read_pictures({"path": path, "bytes": data}, MAX_BYTES))


def batch(rows: Iterable[dict[str, Any]]) -> dict[str, Sequence[Any]]:
    """Rows as columns, as Ray Data hands them over."""
    rows = list(rows)
    return {name: np.array([row[name] for row in rows], object) for name in rows[0]}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterConfig:
    # One process has the store in its memory; the settings of a cluster would refuse it.
    settings = Settings(data_dir=tmp_path, store="memory")
    monkeypatch.setattr(ClusterConfig, "model_settings", lambda *_: settings)
    return ClusterConfig()


@pytest.fixture
def worker(config: ClusterConfig) -> Iterator[IngestWorker]:
    worker = IngestWorker(config, fake_models, 0, None, lambda _: None)
    yield worker
    worker.close()


def test_pictures_come_out_of_files_and_shards() -> None:
    (red,) = read("/in/red.png", picture("red"))
    assert (red["name"], red["data"]) == ("/in/red.png", picture("red"))
    assert json.loads(red["metadata"]) == {"filename": "red.png"}
    shard = tar(a__png=picture("blue"), a__json=b'{"year": 2020}', b__png=b"")
    blue, empty = read("/in/shard.tar", shard)
    assert blue["name"] == "/in/shard.tar/a.png"
    assert json.loads(blue["metadata"])["year"] == 2020
    assert (empty["name"], empty["data"]) == ("/in/shard.tar/b.png", b"")
    assert "no bytes" in empty["reason"]


def test_files_that_cannot_be_read_are_told_by_their_name() -> None:
    (cut,) = read("/in/cut.tar", tar(a__png=picture("red"))[:700])[-1:]
    assert cut["reason"]
    (large,) = read("/in/large.png", bytes(MAX_BYTES + 1))
    assert "the limit is" in large["reason"]


def test_a_rerun_finds_what_is_there(worker: IngestWorker) -> None:
    rows = [
        *read("red.png", picture("red")),
        *read("empty.png", b""),
        *read("text.png", b"no picture"),
        *read("blue.png", picture("blue")),
    ]
    outcomes = worker(batch(rows))
    told = dict(zip(outcomes["name"], outcomes["status"], strict=True))
    expected = {
        "red.png": "created",
        "blue.png": "created",
        "empty.png": "failed",
        "text.png": "failed",
    }
    assert told == expected
    assert all(
        bool(reason) == (status == "failed")
        for reason, status in zip(outcomes["reason"], outcomes["status"], strict=True)
    )
    again = worker(batch(rows[:1]))
    assert again["status"] == ["exists"]


def test_a_batch_of_failures_alone(worker: IngestWorker) -> None:
    assert worker(batch(read("text.png", b"no picture")))["status"] == ["failed"]
    assert worker(batch(read("empty.png", b"")))["status"] == ["failed"]


def test_pictures_wait_for_a_store_that_does_not_answer(
    worker: IngestWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, tries = Library.put, []

    def away_twice(library: Library, images: Sequence[Any]) -> Any:
        tries.append(len(images))
        if len(tries) < 3:
            raise StoreUnreachable("away")
        return put(library, images)

    monkeypatch.setattr(Library, "put", away_twice)
    monkeypatch.setattr(ingest_worker, "PAUSE_S", 0.0)
    assert worker(batch(read("red.png", picture("red"))))["status"] == ["created"]
    assert tries == [1, 1, 1]
    monkeypatch.setattr(ingest_worker, "PATIENCE_S", -1.0)
    tries.clear()
    with pytest.raises(StoreUnreachable):
        worker(batch(read("blue.png", picture("blue"))))


def test_another_model_than_the_clusters_puts_nothing(config: ClusterConfig) -> None:
    def refuse(fingerprint: str) -> None:
        raise WrongModel(fingerprint)

    with pytest.raises(WrongModel):
        IngestWorker(config, fake_models, 0, None, refuse)
