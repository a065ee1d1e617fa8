"""Damaged pictures of every format, many of them: none stops the service, none is half stored."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import httpx
import psutil
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.settings import MIB
from tests.eventually import eventually
from tests.service.conftest import Start, picture, send
from tests.service.processes import FakeServer

GOLDEN = Path(__file__).parents[1] / "golden"
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF")
FILES = 20  # in one upload
HEAD_BYTES = 64  # where most of what decides how a file is read stands
EXTREMES = (b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4))
STORED = ("created", "exists")


def whole_files() -> list[bytes]:
    """A picture of each format, with more than one colour, so that there is something to damage."""
    image = Image.new("RGB", (48, 40))
    image.putdata([(x * 5, y * 6, x * y % 256) for y in range(40) for x in range(48)])
    files = [(GOLDEN / "red-blue.heic").read_bytes()]
    for name in FORMATS:
        buffer = io.BytesIO()
        image.save(buffer, name)
        files.append(buffer.getvalue())
    return files


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The file with one to four changes: of a byte, of a run of bytes, of its length."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        in_head = chance.random() < 0.5
        start = chance.randrange(
            min(len(changed), HEAD_BYTES) if in_head else len(changed)
        )
        length = chance.randint(1, 16)
        match chance.randrange(5):
            case 0:
                changed[start] ^= 1 << chance.randrange(8)
            case 1:
                changed[start : start + length] = chance.randbytes(length)
            case 2:
                # At least a byte is left to be changed next.
                del changed[max(start, 1) : start + length]
            case 3:
                # The largest and the smallest numbers, where lengths and sizes stand.
                changed[start : start + 4] = chance.choice(
                    [b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4)]
                )
            case _:
                del changed[max(start, 1) :]
    return bytes(changed)


def uploads(count: int) -> Iterator[list[bytes]]:
    chance = random.Random(0)
    whole = whole_files()
    for start in range(0, count, FILES):
        yield [
            mutated(whole[number % len(whole)], chance)
            for number in range(start, min(start + FILES, count))
        ]


def resident_bytes(pid: int) -> int:
    """Memory of a process and of those it has started."""
    process = psutil.Process(pid)
    return sum(
        each.memory_info().rss for each in [process, *process.children(recursive=True)]
    )


def check_what_is_stored(client: TestClient, ids: set[str]) -> None:
    """Exactly these images are stored, each with its picture."""
    listed: set[str] = set()
    cursor: str | None = None
    while True:
        parameters = {"limit": 100} | ({} if cursor is None else {"cursor": cursor})
        page = client.get("/images", params=parameters).json()
        listed |= {image["id"] for image in page["images"]}
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert listed == ids
    for image_id in ids:
        assert client.get(f"/images/{image_id}/thumbnail").status_code == 200


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_damaged_files_are_stored_whole_or_refused(start: Start, count: int) -> None:
    client = start()
    ids: set[str] = set()
    seen: Counter[str] = Counter()
    for upload in uploads(count):
        response = send(client, *upload)
        images = response.json()["images"]
        assert len(images) == len(upload)
        for image in images:
            if image["status"] in STORED:
                ids.add(image["id"])
                seen["stored"] += 1
            else:
                assert image["error"]["status"] < 500, image
                seen["refused"] += 1
    # Neither damage that nothing notices nor files that none could read would test anything.
    assert min(seen["stored"], seen["refused"]) > count / 10
    check_what_is_stored(client, ids)
    assert send(client, picture("blue")).status_code == 201


@pytest.mark.long
def test_damaged_files_cost_no_memory(tmp_path: Path) -> None:
    server = FakeServer(tmp_path / "data")
    sizes: list[
        int
    ] = []  # resident bytes of the service and its decoders, after each upload
    try:
        eventually(server.is_ready)
        with httpx.Client(base_url=server.url, timeout=120) as client:
            for upload in uploads(10_000):
                send(client, *upload)
                sizes.append(resident_bytes(server.process.pid))
    finally:
        server.kill()
    # By then every decoder has had files of every format.
    warm, last = median(sizes[80:120]), median(sizes[-40:])
    print(f"resident memory: {warm / MIB:.0f}, then {last / MIB:.0f} MiB")
    assert last <= 1.1 * warm
