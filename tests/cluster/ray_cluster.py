"""A Ray cluster of two nodes in this network namespace, which has loopback alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.eventually import eventually

REPOSITORY = Path(__file__).parents[2]
HEAD, NODE = "127.0.0.1", "127.0.0.2"
PORT = 6379
# Ray Serve keeps the address that it was started with, whatever service comes after.
HTTP_PORT = 8000
TRIES = 5  # to start a node
CPUS = 8  # that Ray counts with; it measures none
ENVIRONMENT = {
    "PYTHONPATH": str(REPOSITORY),  # replicas import the fake model from the tests
    # Processes start slowly where they outnumber the cores, and Ray's own give way to all others.
    "RAY_worker_niceness": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}


class RayCluster:
    """The head and a second node, each with a raylet of its own."""

    def __init__(self, folder: Path) -> None:
        # Short: paths of Unix sockets are below it.
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Starts both nodes; they have joined when this returns."""
        self._start(HEAD, "--head", f"--port={PORT}", f"--temp-dir={self._folder}",
                    "--include-dashboard=false", "--include-log-monitor=false",
                    "--no-monitor")  # fmt: skip
        self.start_node()

    def start_node(self) -> None:
        """Starts the second node, or starts it again."""
        self._start(NODE, f"--address={HEAD}:{PORT}")

    def mend(self) -> None:
        """Starts the second node again if it was killed."""
        if NODE not in self._processes:
            self.start_node()

    def kill_node(self) -> None:
        """Kills the second node's raylet, as a power cut would."""
        for process in psutil.process_iter(["name", "cmdline"]):
            command = process.info["cmdline"] or []
            if (
                process.info["name"] == "raylet"
                and f"--node_ip_address={NODE}" in command
            ):
                process.kill()
        self._processes.pop(NODE).wait(60)

    def stop(self) -> None:
        """Ends both nodes."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(60)

    def _start(self, ip: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block",
                   f"--node-ip-address={ip}", f"--num-cpus={CPUS}", "--num-gpus=0",
                   "--object-store-memory=200000000", "--disable-usage-stats",
                   *arguments]  # fmt: skip
        environment = os.environ | ENVIRONMENT
        log = self._folder / f"{ip}.log"

        def has_started() -> bool:
            return b"Ray runtime started" in log.read_bytes()

        # Ray gives its own processes 30 s to start, which is not enough on a busy machine.
        for _ in range(TRIES):
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command, env=environment, stdout=output, stderr=output
                )
            self._processes[ip] = process
            eventually(lambda: has_started() or process.poll() is not None, 300)  # noqa: B023
            if has_started():
                return
        raise AssertionError(log.read_text())


@contextmanager
def running_ray_cluster(folder: Path) -> Iterator[RayCluster]:
    """A cluster of two nodes."""
    cluster = RayCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
