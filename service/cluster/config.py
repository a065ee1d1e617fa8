"""The file that describes a cluster, in TOML; Ray Serve takes its contents as arguments."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from index.registry import store_engine
from service.errors import ClusterFileInvalid
from service.settings import Settings, without_password

# Each has a place of its own, or is a secret, which Ray would show on its dashboard.
_NOT_IN_SETTINGS = {
    "host": "the address is `host` under [http]",
    "port": "the port is `port` under [http]",
    "api_key": "Ray shows this file on its dashboard; set PRECIS_API_KEY on the nodes",
}


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Http(_Table):
    """Where every node with a replica of the service listens."""

    # Reached by others, so that the service asks for a key unless it is told otherwise.
    host: str = "0.0.0.0"
    port: int = Field(default=8000, ge=1, le=65_535)


class Scaling(_Table):
    """How many replicas there are, and what each takes of its node."""

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int | None = Field(default=None, ge=1)  # None: always `min_replicas`
    cpus: float = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.most < self.min_replicas:
            raise ValueError("max_replicas must not be less than min_replicas")
        return self

    @property
    def most(self) -> int:
        """The most replicas there may be."""
        return self.max_replicas or self.min_replicas


class FirstPassScaling(Scaling):
    """As Scaling, for the first pass."""

    gpus: float | None = Field(default=None, ge=0)  # None: one, if the cluster has any


class ModelScaling(Scaling):
    """As Scaling, for the other work of the model."""

    gpus: float = Field(default=0, ge=0)


class ClusterConfig(_Table):
    """Everything in the file of a cluster."""

    settings: dict[str, Any] = Field(default_factory=dict)
    http: Http = Http()
    service: Scaling = Scaling()
    first_pass: FirstPassScaling = FirstPassScaling()
    text_embedding: ModelScaling = ModelScaling()
    second_pass: ModelScaling = ModelScaling()

    @field_validator("settings")
    @classmethod
    def _are_settings_of_a_cluster(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name, reason in _NOT_IN_SETTINGS.items():
            if name in settings:
                raise ValueError(f"{name}: {reason}")
        if unknown := settings.keys() - Settings.model_fields.keys():
            raise ValueError(f"there is no setting {min(unknown)!r}")
        if urlsplit(str(settings.get("store", ""))).password is not None:
            raise ValueError(
                "store: Ray shows this file on its dashboard; keep the password in ~/.pgpass, or"
                " the URL in PRECIS_STORE on the nodes"
            )
        return settings

    def service_settings(self) -> Settings:
        """The settings on the node that asks: those of the file before those of the node.

        Raises ClusterFileInvalid, also for a store that replicas cannot share.
        """
        try:
            settings = Settings(**self.settings, **self.http.model_dump())
        except ValidationError as error:
            raise ClusterFileInvalid(f"[settings] {_complaint(error)}") from error
        if store_engine(settings.store).in_folder:
            raise ClusterFileInvalid(
                f"[settings] store: replicas cannot share {without_password(settings.store)!r};"
                " name a PostgreSQL database or a place for Lance datasets"
            )
        return settings

    def model_settings(self, gpus: float) -> Settings:
        """The settings of a process that runs the model and has so many GPUs.

        Raises ClusterFileInvalid.
        """
        settings = self.service_settings()
        if gpus or settings.device != "auto":
            return settings
        # Without a GPU of its own, it takes none that another process has.
        return settings.model_copy(update={"device": "cpu"})


def read_cluster_file(path: Path) -> ClusterConfig:
    """The file of a cluster. Raises ClusterFileInvalid."""
    try:
        contents = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClusterFileInvalid(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClusterFileInvalid(f"{path} is not TOML: {error}") from error
    try:
        return cluster_config(contents)
    except ClusterFileInvalid as error:
        raise ClusterFileInvalid(f"{path}: {error}") from error


def cluster_config(contents: Mapping[str, Any]) -> ClusterConfig:
    """The contents of such a file, checked. Raises ClusterFileInvalid."""
    try:
        return ClusterConfig.model_validate(dict(contents))
    except ValidationError as error:
        raise ClusterFileInvalid(_complaint(error)) from error


def _complaint(error: ValidationError) -> str:
    """One line on what is wrong, without the values: one may be a secret."""
    complaints = []
    for part in error.errors():
        place = ".".join(map(str, part["loc"]))
        message = part["msg"].removeprefix("Value error, ")
        complaints.append(f"{place}: {message}" if place else message)
    return "; ".join(complaints)
