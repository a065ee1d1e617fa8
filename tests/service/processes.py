"""The service as a process, which a test can kill."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from queue import Queue
from typing import NoReturn

import httpx
import pytest

REPOSITORY = Path(__file__).parents[2]
_LINES_KEPT = 1000  # of its log


class FakeServer:
    """The service as a process of its own, with a fake model."""

    def __init__(
        self, data_dir: Path, *, model: str = "fake", **environment: str
    ) -> None:
        """Returns once it listens. Fails with what it wrote if it ends before that."""
        command = [
            sys.executable,
            "-m",
            "tests.service.fake_server",
            model,
            str(data_dir),
        ]
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Without a reader the pipe would fill up, and block the service.
        self._reader = threading.Thread(target=self._read)
        self._written: deque[str] = deque(maxlen=_LINES_KEPT)
        self._address: Queue[str | None] = Queue()
        self._reader.start()
        address = self._address.get()
        if address is None:
            self._fail()
        self.url = address

    def kill(self) -> None:
        with self.process:
            self.process.kill()
            self._reader.join(30)

    def is_ready(self) -> bool:
        """Whether it takes requests. Fails with what it wrote if it has ended."""
        # Without `verify` a request loads the certificates of the system: a tenth of a second.
        try:
            response = httpx.get(f"{self.url}/readyz", timeout=60, verify=False)
        except httpx.TransportError:
            self._fail()
        return response.status_code == 200

    def peak_memory_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def _read(self) -> None:
        """Reads what it writes to its end, and finds its address."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._written.append(line)
            if match := re.search(r"running on (http://\S+)", line):
                self._address.put(match[1])
        self._address.put(None)

    def _fail(self) -> NoReturn:
        with self.process:
            status = self.process.wait(60)
            self._reader.join(30)
        written = "".join(self._written)
        pytest.fail(f"the service ended with status {status}:\n{written}")
