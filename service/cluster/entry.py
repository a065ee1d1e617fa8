"""The application that Ray Serve runs: `service.cluster.entry:build`.

Its arguments are the contents of a cluster's file, as `precis cluster up` reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from fastapi import FastAPI
from PIL.Image import Image
from ray import serve
from ray.serve.handle import DeploymentHandle

from service.cluster.config import ClusterConfig, Scaling, cluster_config
from service.cluster.model_replicas import (
    FirstPassReplica,
    SecondPassReplica,
    TextEmbeddingReplica,
)
from service.cluster.ray_replicas import RayReplicas, claim_model
from service.cluster.request_id import ProxysRequestId
from service.cluster.service_replica import JobReplica, ServiceReplica
from service.models import ModelFactory, load_models

APPLICATION = "precis"
# Requests in progress at a replica of the service from which another is started.
TARGET_REQUESTS = 32


class FirstPass(FirstPassReplica):
    """The deployment of the first pass."""

    def __init__(
        self, config: ClusterConfig, make_models: ModelFactory, gpus: float
    ) -> None:
        settings = config.model_settings(gpus)
        super().__init__(settings, make_models, claim_model)
        self.compress.set_max_batch_size(settings.batch_size)

    # A batch is whatever waits when the model is free; nothing waits for it to fill up.
    @serve.batch(batch_wait_timeout_s=0)  # type: ignore[untyped-decorator]
    async def compress(self, images: Sequence[Image]) -> list[Any]:
        """See `compress_batch`; called with one image."""
        return [*await self.compress_batch(images)]


class TextEmbedding(TextEmbeddingReplica):
    """The deployment that embeds texts."""

    def __init__(
        self, config: ClusterConfig, make_models: ModelFactory, gpus: float
    ) -> None:
        settings = config.model_settings(gpus)
        super().__init__(settings, make_models, claim_model)
        self.embed_text.set_max_batch_size(settings.batch_size)

    @serve.batch(batch_wait_timeout_s=0)  # type: ignore[untyped-decorator]
    async def embed_text(self, texts: Sequence[str]) -> list[Any]:
        """See `embed_batch`; called with one text."""
        return [*await self.embed_batch(texts)]


class SecondPass(SecondPassReplica):
    """The deployment of the second pass."""

    def __init__(
        self, config: ClusterConfig, make_models: ModelFactory, gpus: float
    ) -> None:
        super().__init__(config.model_settings(gpus), make_models, claim_model)


class Jobs(JobReplica):
    """The deployment that works on jobs, of one replica."""

    def __init__(
        self,
        config: ClusterConfig,
        first_pass: DeploymentHandle,
        text_embedding: DeploymentHandle,
        second_pass: DeploymentHandle,
    ) -> None:
        settings = config.service_settings()
        super().__init__(
            settings,
            *(
                RayReplicas(handle, settings.deadline_s)
                for handle in (first_pass, text_embedding, second_pass)
            ),
        )

    async def __del__(self) -> None:
        # Ray Serve awaits it when it ends the replica.
        await self.close()


@serve.ingress()
class Service(ServiceReplica):
    """The deployment that answers HTTP."""

    def __init__(
        self,
        config: ClusterConfig,
        first_pass: DeploymentHandle,
        text_embedding: DeploymentHandle,
        second_pass: DeploymentHandle,
        jobs: DeploymentHandle,
    ) -> None:
        settings = config.service_settings()
        super().__init__(
            settings,
            *(
                RayReplicas(handle, settings.deadline_s)
                for handle in (first_pass, text_embedding, second_pass, jobs)
            ),
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = self.app()
        app.add_middleware(ProxysRequestId)
        return app


def build(args: dict[str, Any]) -> serve.Application:
    """The application of a cluster's file. Raises ClusterFileInvalid."""
    return application(cluster_config(args))


def application(
    config: ClusterConfig, make_models: ModelFactory = load_models
) -> serve.Application:
    """The application, with any model. Raises ClusterFileInvalid."""
    settings = config.service_settings()
    # As many again as a batch wait at a replica, so that the next batch is there at once.
    requests = min(2 * settings.batch_size, settings.queue_size)

    def model(deployment: type, scaling: Scaling, gpus: float) -> serve.Application:
        options = _options(scaling, gpus, settings.batch_size)
        deployed = serve.deployment(deployment).options(
            max_ongoing_requests=requests, **options
        )
        return deployed.bind(config, make_models, gpus)

    gpus = config.first_pass.gpus
    passes = (
        model(FirstPass, config.first_pass, gpus_there_are() if gpus is None else gpus),
        model(TextEmbedding, config.text_embedding, config.text_embedding.gpus),
        model(SecondPass, config.second_pass, config.second_pass.gpus),
    )
    jobs = serve.deployment(Jobs).options(
        num_replicas=1, ray_actor_options={"num_cpus": config.service.cpus}
    )
    service = serve.deployment(Service).options(
        max_ongoing_requests=settings.queue_size * 3,
        **_options(config.service, 0, TARGET_REQUESTS),
    )
    return service.bind(config, *passes, jobs.bind(config, *passes))


def _options(scaling: Scaling, gpus: float, target: float) -> dict[str, Any]:
    resources = {"num_cpus": scaling.cpus, "num_gpus": gpus}
    if scaling.most == scaling.min_replicas:
        return {"num_replicas": scaling.most, "ray_actor_options": resources}
    return {
        "ray_actor_options": resources,
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "max_replicas": scaling.most,
            "target_ongoing_requests": target,
        },
    }


def gpus_there_are() -> int:
    """1 if the cluster has a GPU at this moment, else 0."""
    return int(ray.cluster_resources().get("GPU", 0) >= 1)
