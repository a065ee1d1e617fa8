"""A real vLLM server on the CPU, from an environment of its own: `make test-vllm` makes it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import IO

import httpx

from tests.eventually import eventually

PYTHON = Path(__file__).parents[2] / ".venv" / "vllm" / "bin" / "python"
START_S = 600.0  # on two busy cores
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the cores are other processes' too
    "VLLM_NO_USAGE_STATS": "1",
}


class VllmProcess:
    """Serves a folder that `precis export second-pass` wrote, under a name."""

    def __init__(self, folder: Path, name: str, port: int, log: IO[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self._log = log
        self._command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server",
                         "--model", folder, "--served-model-name", name,
                         "--enable-prompt-embeds", "--host", "127.0.0.1",
                         "--port", str(port), "--dtype", "float32", "--enforce-eager",
                         "--max-model-len", "2048"]  # fmt: skip

    def start(self) -> None:
        """Starts the server, on the same port each time; it answers when this returns."""
        self._process = subprocess.Popen(
            self._command,
            # Beside its Python: the compiler's tools.
            env=os.environ
            | _ENVIRONMENT
            | {"PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"},
            stdout=self._log,
            stderr=self._log,
        )
        eventually(self._answers, START_S)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "vLLM has ended"
        try:
            return httpx.get(f"{self.url}/models", timeout=5).is_success
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """Ends the server, with its engine."""
        self._process.terminate()
        self._process.wait(60)
