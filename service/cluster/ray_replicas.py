"""Calls of a deployment's replicas through Ray Serve; and which model a cluster runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from service.errors import OUR_ERRORS, DeadlineExceeded, ModelFailed, WrongModel

log = logging.getLogger(__name__)

NAMESPACE = "precis"
CLAIM = "model"
# How often a call is made again whose replica died, and the first of the growing pauses between.
TRIES = 6
FIRST_PAUSE_S = 0.1


class RayReplicas:
    """The port Replicas over a handle. Not for an event loop's thread, which it would block."""

    def __init__(self, handle: DeploymentHandle, timeout_s: float) -> None:
        """`timeout_s` is the longest that a call, or the wait for one item of a stream, takes."""
        self._handle = handle
        self._timeout_s = timeout_s

    def call_each(self, method: str, items: Sequence[Any]) -> list[Any]:
        """See Replicas."""
        until = time.monotonic() + self._timeout_s
        responses = [self._start(method, item) for item in items]
        results = []
        try:
            for item, response in zip(items, responses, strict=True):
                results.append(self._result(response, method, item, until))
        except BaseException:
            for response in responses[len(results) + 1 :]:
                response.cancel()
            raise
        for result in results:
            # A batch hands back the error of one of its items as that one's result.
            if isinstance(result, Exception):
                raise result
        return results

    def call(self, method: str) -> Any:
        """See Replicas."""
        while True:
            try:
                return getattr(self._handle, method).remote().result()
            except RayActorError as error:
                log.warning("a replica died at %s: %s", method, error)
                time.sleep(FIRST_PAUSE_S)

    def stream(self, method: str, *arguments: Any) -> Generator[Any, None, None]:
        """See Replicas. What has been yielded is not yielded again; a replica's death ends it."""
        streaming = getattr(self._handle.options(stream=True), method)
        for pause_s in _pauses():
            response = streaming.remote(*arguments)
            has_begun = False
            try:
                for item in response:
                    has_begun = True
                    yield item
            except RayActorError as error:
                if has_begun or pause_s is None:
                    raise _died() from error
                time.sleep(pause_s)
            except (RayError, RayServeException) as error:
                raise _translated(error) from error
            else:
                return
            finally:
                response.cancel()

    def _start(self, method: str, item: Any) -> Any:
        return getattr(self._handle, method).remote(item)

    def _result(self, response: Any, method: str, item: Any, until: float) -> Any:
        for pause_s in _pauses():
            try:
                return response.result(timeout_s=max(0.0, until - time.monotonic()))
            except RayActorError as error:
                # All that the model does may be done twice.
                if pause_s is None:
                    raise _died() from error
                time.sleep(pause_s)
                response = self._start(method, item)
            except TimeoutError as error:
                response.cancel()
                raise DeadlineExceeded(
                    f"The model took longer than {self._timeout_s:g} s."
                ) from error
            except (RayError, RayServeException) as error:
                raise _translated(error) from error
        raise AssertionError("the last pause is None")


def _pauses() -> list[float | None]:
    """The pause after each failed try; None after the last."""
    return [*(FIRST_PAUSE_S * 2**number for number in range(TRIES - 1)), None]


def _died() -> ModelFailed:
    return ModelFailed("The processes that run the model died, one after the other.")


def _translated(error: Exception) -> Exception:
    """The error of ours that a replica raised, or ModelFailed."""
    cause = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(cause, OUR_ERRORS):
        return cause
    log.error("a call of the model failed", exc_info=error)
    return ModelFailed("The model failed; the reason is in the log.")


class _Claim:
    """Keeps the fingerprint of the model that came first."""

    def __init__(self) -> None:
        self._fingerprint: str | None = None

    def claim(self, fingerprint: str) -> str:
        """The fingerprint that all replicas must have; the first one decides."""
        self._fingerprint = self._fingerprint or fingerprint
        return self._fingerprint


def claim_model(fingerprint: str) -> None:
    """Raises WrongModel if another replica of the cluster runs another model.

    Tokens of two models in one library would be a loss that nobody notices.
    """
    claim = (
        ray.remote(_Claim)
        .options(
            name=CLAIM,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
        )
        .remote()
    )
    in_force = ray.get(claim.claim.remote(fingerprint))
    if in_force != fingerprint:
        host = ray.util.get_node_ip_address()
        raise WrongModel(
            f"the node {host} has the model {fingerprint[:12]}, the cluster runs"
            f" {in_force[:12]}; `precis cluster down` comes before a change of model"
        )


def forget_model() -> None:
    """Lets the next replicas bring another model."""
    try:
        ray.kill(ray.get_actor(CLAIM, namespace=NAMESPACE))
    except ValueError:
        return
