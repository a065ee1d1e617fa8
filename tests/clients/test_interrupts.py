"""`precis ingest` of a thousand pictures, interrupted three times: the real command, by SIGINT."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from precis_client import Precis
from tests.clients.interruptible import interruptible
from tests.clients.serving import served

pytestmark = pytest.mark.long

PICTURES = 1000
INTERRUPT_AFTER = (250, 500, 750)  # outcomes
SUMMARY = re.compile(r"(\d+) added, (\d+) known, (\d+) failed")
ON_THEIR_WAY = re.compile(r"(\d+) were on their way")


@dataclass
class Run:
    """What one run of the command printed."""

    status: int
    outcomes: list[dict[str, str]]  # the lines of JSON
    told: Counter[str]  # the counts in its summary
    on_their_way: int  # whose outcome it did not wait for

    @property
    def created(self) -> list[str]:
        """The ids of the images that it says it stored."""
        return [
            outcome["image_id"]
            for outcome in self.outcomes
            if outcome["status"] == "created"
        ]

    def check_counts(self) -> None:
        """That the summary counts what was printed; the signal may fall between the two."""
        printed = Counter(outcome["status"] for outcome in self.outcomes)
        unprinted = self.told - printed
        assert not printed - self.told
        assert unprinted.total() <= (1 if self.status else 0)


def ingest(url: str, folder: Path, log: Path, interrupt_after: int | None) -> Run:
    """Runs the command, and interrupts it after so many outcomes."""
    command = [sys.executable, "-m", "precis_client", "ingest", "--json", "--url", url]
    with (
        log.open("w") as stderr,
        interruptible([*command, str(folder)], stderr=stderr) as process,
    ):
        assert process.stdout is not None
        lines = list(islice(process.stdout, interrupt_after))
        if interrupt_after is not None:
            process.send_signal(signal.SIGINT)
        lines += process.stdout
    said = log.read_text()
    summary = SUMMARY.search(said)
    assert summary is not None, said
    created, exists, failed = map(int, summary.groups())
    on_their_way = ON_THEIR_WAY.search(said)
    return Run(
        status=process.returncode,
        outcomes=[json.loads(line) for line in lines],
        told=Counter(created=created, exists=exists, failed=failed),
        on_their_way=int(on_their_way[1]) if on_their_way else 0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A thousand pictures, no two alike, in ten folders."""
    folder = tmp_path / "Pictures"
    for number in range(PICTURES):
        path = folder / str(number % 10) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (number % 256, 60 * (number // 256), 128)
        Image.new("RGB", (16, 16), colour).save(path)
    return folder


def test_a_thousand_pictures_with_three_interrupts(
    tmp_path: Path, folder: Path
) -> None:
    acknowledged = 0
    on_their_way = 0
    created: list[str] = []
    with served(tmp_path / "data") as url, Precis(url) as precis:
        for after in INTERRUPT_AFTER:
            run = ingest(url, folder, tmp_path / "log", after)
            assert run.status == 130
            run.check_counts()
            assert run.told["failed"] == 0
            assert after <= run.told.total() < PICTURES
            created += run.created
            acknowledged += run.told["created"]
            on_their_way += run.on_their_way
            # What it says is stored is stored, and no more than that and what was on its way.
            stored = [image.id for image in precis.images()]
            assert set(created) <= set(stored)
            assert acknowledged <= len(stored) <= acknowledged + on_their_way
        last = ingest(url, folder, tmp_path / "log", None)
        assert last.status == 0
        last.check_counts()
        assert last.told["failed"] == 0
        assert last.told.total() == PICTURES
        created += last.created
        # No image was made twice.
        assert len(created) == len(set(created))
        images = list(precis.images())
    assert len(images) == PICTURES
    assert len({image.id for image in images}) == PICTURES
    paths = {image.metadata["path"] for image in images}
    assert paths == {str(path) for path in folder.rglob("*.png")}
