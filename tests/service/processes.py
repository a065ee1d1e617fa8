"""The service as a process, which a test can kill."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import httpx

REPOSITORY = Path(__file__).parents[2]


class FakeServer:
    """The service as a process of its own, with a fake model."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.service.fake_server",
            "fake",
            str(data_dir),
        ]
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if match := re.search(r"running on (http://\S+)", line):
                self.url = match[1]
                break
        # Without a reader the pipe would fill up, and block the service.
        self._reader = threading.Thread(target=self.process.stderr.read)
        self._reader.start()

    def kill(self) -> None:
        with self.process:
            self.process.kill()
            self._reader.join(30)

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/readyz", timeout=60).status_code == 200

    def peak_memory_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024
