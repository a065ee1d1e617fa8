"""Deploys the service on a Ray cluster, tells how it is, and removes it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from service.cluster.config import ClusterConfig
from service.cluster.entry import APPLICATION, application
from service.cluster.ray_replicas import NAMESPACE, forget_model
from service.errors import ClusterFailed, ClusterUnavailable
from service.models import ModelFactory, load_models

_FAILED = ("UNHEALTHY", "DEPLOY_FAILED")
_CLASS = re.compile(r"^[A-Za-z_]\w*(\.\w+)+: ")

MIN_RAY = (2, 60)  # the first version whose Serve makes an application where it runs


@dataclass(frozen=True)
class DeploymentState:
    """One deployment of the service."""

    name: str
    status: str  # Ray Serve's word: HEALTHY, UPDATING, UNHEALTHY, ...
    replicas: int  # that run


@dataclass(frozen=True)
class ClusterState:
    """The service on a cluster."""

    status: (
        str  # Ray Serve's word: RUNNING, DEPLOYING, ...; NOT_STARTED where it is not
    )
    message: str  # why it does not run
    deployments: tuple[DeploymentState, ...]
    nodes: int  # of the cluster, that are alive

    @property
    def is_running(self) -> bool:
        """Whether all of it runs."""
        return self.status == "RUNNING"


def up(config: ClusterConfig, make_models: ModelFactory = load_models) -> None:
    """Deploys the service, or brings a running one up to date; returns once it is ready.

    Raises ClusterFileInvalid, ClusterUnavailable, ClusterFailed.
    """
    with connected():
        if not _state().deployments:
            forget_model()
        serve.start(http_options=config.http.model_dump())
        try:
            serve.run(application(config, make_models), name=APPLICATION)
        except RuntimeError as error:
            # The whole story is in Ray's logs; what was raised stands in its last line.
            raise ClusterFailed(_state().message or _last_line(str(error))) from error


def state() -> ClusterState:
    """How the service on the cluster is. Raises ClusterUnavailable."""
    with connected():
        return _state()


def down() -> bool:
    """Removes the service from the cluster; whether there was one. Raises ClusterUnavailable.

    The images stay in the store; the cluster goes on.
    """
    with connected():
        was_there = bool(_state().deployments)
        if was_there:
            serve.delete(APPLICATION)
        forget_model()
        return was_there


@contextmanager
def connected() -> Iterator[None]:
    """A connection to the cluster that this machine is part of. Raises ClusterUnavailable."""
    version = tuple(map(int, ray.__version__.split(".")[:2]))
    if version < MIN_RAY:
        needed = ".".join(map(str, MIN_RAY))
        raise ClusterUnavailable(
            f"Ray {ray.__version__} is installed; Précis needs {needed} or later."
        )
    # What Serve says of its progress is not for the person at the terminal.
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # Tries to reach a head that does not answer, of 40 s each: Ray's own 20 would take 13 minutes.
    # It reads this in C++, and has no argument for it.
    os.putenv("RAY_gcs_server_port_wait_time_s", "1")
    try:
        ray.init(
            "auto", namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR"
        )
    except ConnectionError as error:
        raise ClusterUnavailable(
            "No Ray cluster answers here: `ray start --head` begins one, `ray start"
            " --address=HOST:6379` adds a machine to it, and `ray stop` clears away one that ended"
            " by itself."
        ) from error
    except RuntimeError as error:
        # Ray's own words where its version or Python's is not the cluster's.
        reason = " ".join(str(error).split())
        raise ClusterUnavailable(f"Ray cannot join the cluster: {reason}") from error
    try:
        yield
    except (RayError, RayServeException) as error:
        raise ClusterUnavailable(f"The cluster: {_last_line(str(error))}") from error
    finally:
        ray.shutdown()


def _state() -> ClusterState:
    nodes = sum(node["Alive"] for node in ray.nodes())
    found = serve.status().applications.get(APPLICATION)
    if found is None:
        return ClusterState("NOT_STARTED", "", (), nodes)
    deployments = []
    message = found.message
    for name, deployment in found.deployments.items():
        running = deployment.replica_states.get("RUNNING", 0)
        deployments.append(DeploymentState(name, deployment.status.value, running))
        if deployment.status.value in _FAILED and deployment.message:
            message = deployment.message
    return ClusterState(
        found.status.value, _last_line(message), tuple(deployments), nodes
    )


def _last_line(text: str) -> str:
    """The line of a traceback that says what was raised, without the name of the class."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _CLASS.sub("", lines[-1]) if lines else ""
