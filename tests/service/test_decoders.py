"""Decoding in processes of their own: what becomes of the others when one dies or hangs."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from service.decoders import DecoderProcesses
from service.errors import (
    DecoderDied,
    DecodingTooLarge,
    DecodingTooSlow,
    EmptyFile,
    ImageDamaged,
    NotAnImage,
    PictureError,
    TooManyPixels,
)
from service.use_cases.images import Decoded, decode
from tests.eventually import eventually
from tests.fakes.decode import (
    CRASH,
    FULL,
    HANG,
    StuckAtStart,
    misbehaving,
    shared_decode,
)
from tests.service.conftest import (
    Start,
    assert_problem,
    files,
    in_background,
    listed,
    picture,
    send,
)

GOLDEN = Path(__file__).parents[1] / "golden"
MIB = 1024 * 1024
LIMITS = {"max_pixels": 4_000_000, "max_side_px": 64}

Pool = Callable[..., DecoderProcesses]


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Makes decoders that misbehave; they are closed after the test."""
    with ExitStack() as stack:

        def pool(
            timeout_s: float = 60,
            max_memory_bytes: int = 256 * MIB,
            max_pixels_at_once: int = 4_000_000,
        ) -> DecoderProcesses:
            processes = DecoderProcesses(
                timeout_s=timeout_s,
                max_memory_bytes=max_memory_bytes,
                max_pixels_at_once=max_pixels_at_once,
                decode=misbehaving,
            )
            stack.callback(processes.close)
            return processes

        yield pool


def hanging(path: Path) -> bytes:
    return HANG + str(path).encode()


def pid_in(path: Path) -> int:
    """The process that hangs, once it does."""
    # A decoder may have to start first, on a machine that has others to serve.
    eventually(path.exists, limit_s=300)
    return int(path.read_text())


def with_transparency() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (70, 30), (255, 0, 0, 128)).save(buffer, "PNG")
    return buffer.getvalue()


def deep_grey() -> bytes:
    image = Image.new("I;16", (8, 8), 4000)
    image.putpixel((0, 0), 3000)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        picture(),
        picture(format="JPEG")[:-2],
        with_transparency(),
        deep_grey(),
        (GOLDEN / "red-blue.heic").read_bytes(),
    ],
    ids=["png", "jpeg without its end", "transparent", "deep grey", "heic"],
)
def test_a_picture_is_decoded_as_it_is_here(data: bytes) -> None:
    here, there = decode(data, **LIMITS), shared_decode()(data, **LIMITS)
    assert there.image.tobytes() == here.image.tobytes()
    for name in ("width_px", "height_px", "media_type", "value_range", "exif", "notes"):
        assert getattr(there, name) == getattr(here, name), name


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EmptyFile),
        (b"no picture", NotAnImage),
        (picture()[:60], ImageDamaged),
        (picture(size=(3000, 3000)), TooManyPixels),
    ],
)
def test_an_error_is_the_one_raised_here(
    data: bytes, error: type[PictureError]
) -> None:
    with pytest.raises(error) as here:
        decode(data, **LIMITS)
    with pytest.raises(error) as there:
        shared_decode()(data, **LIMITS)
    assert str(there.value) == str(here.value)


def test_a_file_that_kills_its_decoder_costs_no_other(pool: Pool) -> None:
    decoders = pool()
    decoders(picture(), **LIMITS)
    for _ in range(2):
        with pytest.raises(DecoderDied):
            decoders(CRASH, **LIMITS)
        assert decoders(picture("blue"), **LIMITS).image.getpixel((0, 0)) == (0, 0, 255)


def test_a_file_that_hangs_is_given_up(pool: Pool, tmp_path: Path) -> None:
    decoders = pool(timeout_s=3)
    pid = tmp_path / "pid"
    with pytest.raises(DecodingTooSlow, match="longer than 3 s"):
        decoders(hanging(pid), **LIMITS)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert decoders(picture(), **LIMITS).width_px == 40


@pytest.mark.parametrize("when", [signal.SIGSTOP, signal.SIGKILL])
def test_an_idle_decoder_that_is_stopped_or_killed_is_replaced(
    pool: Pool, when: signal.Signals
) -> None:
    decoders = pool(timeout_s=3)
    decoders(picture(), **LIMITS)
    (idle,) = decoders._idle
    process = idle._process
    assert process.pid is not None
    os.kill(process.pid, when)
    if when == signal.SIGKILL:
        process.join()
    else:
        # Nobody can see that it will not read the file, which does not fit into the connection.
        with pytest.raises(DecodingTooSlow):
            decoders(bytes(8 * MIB), **LIMITS)
    assert decoders(picture(), **LIMITS).width_px == 40


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit on Linux alone")
def test_a_decoder_s_memory_is_limited(pool: Pool) -> None:
    decoders = pool(max_memory_bytes=8 * MIB)
    with pytest.raises(DecodingTooLarge):
        decoders(picture(size=(1900, 1900)), **LIMITS)
    assert decoders(picture(), **LIMITS).width_px == 40


def test_many_files_are_decoded_side_by_side(pool: Pool, tmp_path: Path) -> None:
    decoders = pool()
    pids = [tmp_path / str(number) for number in range(3)]
    with ThreadPoolExecutor(3) as threads:
        work = [threads.submit(decoders, hanging(path), **LIMITS) for path in pids]
        processes = {pid_in(path) for path in pids}
        for process in processes:
            os.kill(process, signal.SIGKILL)
        errors = [future.exception(60) for future in work]
    assert len(processes) == len(pids)
    assert {type(error) for error in errors} == {DecoderDied}


def test_a_large_picture_waits_for_those_that_are_decoded(
    pool: Pool, tmp_path: Path
) -> None:
    decoders = pool(max_pixels_at_once=10)
    first, second = tmp_path / "first", tmp_path / "second"
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(3))
        work = []

        def begin(path: Path, pixels: int) -> None:
            full = FULL + str(path).encode()
            work.append(
                threads.submit(decoders, full, max_pixels=pixels, max_side_px=64)
            )

        begin(first, 6)
        # It has its room before the second one asks.
        first_process = pid_in(first)
        begin(second, 5)
        eventually(lambda: decoders._budget.waiting == 1, limit_s=300)
        # Does not wait behind the second: it is refused before it would take memory.
        with pytest.raises(NotAnImage):
            decoders(b"no picture", **LIMITS)
        os.kill(first_process, signal.SIGKILL)
        assert isinstance(work[0].exception(60), DecoderDied)
        os.kill(pid_in(second), signal.SIGKILL)
        assert isinstance(work[1].exception(60), DecoderDied)
    assert decoders(picture(), **LIMITS).width_px == 40


def test_a_pool_that_is_closed_ends_a_process_that_does_not_start(
    tmp_path: Path,
) -> None:
    pid = tmp_path / "pid"
    decoders = DecoderProcesses(
        timeout_s=60,
        max_memory_bytes=256 * MIB,
        max_pixels_at_once=1,
        decode=StuckAtStart(pid),
    )
    with ThreadPoolExecutor(1) as thread:
        work = thread.submit(decoders, picture(), **LIMITS)
        process = pid_in(pid)
        decoders.close()
        assert isinstance(work.exception(60), DecoderDied)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_closed_pool_leaves_no_process(pool: Pool, tmp_path: Path) -> None:
    decoders = pool()
    decoders(picture(), **LIMITS)
    (idle,) = decoders._idle
    pid = idle._process.pid
    assert pid is not None
    decoders.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_decoder_killed_amid_a_request_costs_one_file(
    start: Start, pool: Pool, tmp_path: Path
) -> None:
    client = start(decode=pool())
    pid = tmp_path / "pid"
    upload = [picture("red"), hanging(pid), picture("blue")]
    with in_background(lambda: send(client, *upload)) as responses:
        os.kill(pid_in(pid), signal.SIGKILL)
    (response,) = responses
    assert response.status_code in (200, 201, 207)
    images = response.json()["images"]
    assert [image["status"] for image in images] == ["created", "failed", "created"]
    error = images[1]["error"]
    assert error["type"] == "urn:precis:problem:decoder-died"
    assert error["title"] == "The process that decoded this file died"
    assert len(listed(client)) == 2
    assert send(client, picture("green")).status_code == 201


def test_what_a_request_is_told_when_its_only_file_fails_so(
    start: Start, pool: Pool, tmp_path: Path
) -> None:
    client = start(decode=pool(timeout_s=3))
    problem = assert_problem(send(client, CRASH), 500, "no-image-stored")
    assert problem["images"][0]["error"]["type"].endswith(":decoder-died")
    problem = assert_problem(
        send(client, hanging(tmp_path / "upload")), 422, "no-image-stored"
    )
    assert problem["images"][0]["error"]["type"].endswith(":decoding-too-slow")
    response = client.post("/search", files=files(CRASH))
    assert_problem(response, 500, "decoder-died")
    response = client.post("/search", files=files(hanging(tmp_path / "search")))
    assert_problem(response, 422, "decoding-too-slow")
    assert listed(client) == []


def test_an_original_is_shown_by_a_decoder(start: Start, pool: Pool) -> None:
    seen: list[int] = []

    def counting(data: bytes, *, max_pixels: int, max_side_px: int) -> Decoded:
        seen.append(max_side_px)
        return decode(data, max_pixels=max_pixels, max_side_px=max_side_px)

    client = start(decode=counting, keep="original")
    (image_id,) = [image["id"] for image in send(client, picture()).json()["images"]]
    seen.clear()
    for name in ("thumbnail", "view?side_px=100"):
        assert client.get(f"/images/{image_id}/{name}").status_code == 200
    assert seen == [512, 200]
