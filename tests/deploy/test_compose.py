"""The compose file follows the specification, and each of its profiles holds together.

`compose-spec` reads it as the specification says, without containers to run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from compose_spec import PyCompose

from service.cluster.config import ClusterConfig, read_cluster_file
from service.server import GRACE_S
from service.settings import Settings
from tests.docs.blocks import ROOT

Service = dict[str, Any]

PROFILES = ("single", "gpu", "cluster")
SETTINGS = {f"PRECIS_{name.upper()}" for name in Settings.model_fields}
OURS = re.compile(r"PRECIS_\w+")
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def compose_file(text: str) -> dict[str, Any]:
    """The file as the specification reads it, anchors merged; raises ValueError if it does not."""
    read = PyCompose.from_json(json.dumps(yaml.safe_load(text)))
    read.validate()
    whole: dict[str, Any] = read.to_dict()
    return whole


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return compose_file((ROOT / "docker-compose.yml").read_text())


def of_profile(compose: dict[str, Any], profile: str) -> dict[str, Service]:
    """The services that start with a profile."""
    return {
        name: service
        for name, service in compose["services"].items()
        if profile in service.get("profiles", [])
    }


def named_volumes(service: Service) -> Iterator[str]:
    """The volumes of the file that a service mounts; folders of the host begin with . or /."""
    for volume in service.get("volumes", []):
        name = volume.split(":")[0] if isinstance(volume, str) else volume["source"]
        if name[0] not in "./":
            yield name


def test_a_mistake_in_the_file_would_be_found() -> None:
    with pytest.raises(ValueError, match="imag"):
        compose_file("services: {precis: {imag: precis}}")


def test_each_service_starts_with_a_profile(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service.get("profiles"), name
        assert set(service["profiles"]) <= set(PROFILES), name


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_holds_together(compose: dict[str, Any], profile: str) -> None:
    services = of_profile(compose, profile)
    assert services
    published: list[str] = []
    for name, service in services.items():
        assert set(named_volumes(service)) <= set(compose["volumes"]), name
        assert set(service.get("depends_on", [])) <= set(services), name
        published += service.get("ports", [])
    assert len(published) == 1, "one address is for callers"
    assert published[0].startswith("127.0.0.1:"), "nothing beyond this machine"


def least_processors(config: ClusterConfig) -> float:
    """Processors of the fewest replicas; one more of the service works on jobs."""
    parts = (config.first_pass, config.text_embedding, config.second_pass)
    of_parts = sum(part.min_replicas * part.cpus for part in parts)
    return of_parts + (config.service.min_replicas + 1) * config.service.cpus


def test_the_cluster_s_file_is_one_that_precis_takes(compose: dict[str, Any]) -> None:
    config = read_cluster_file(ROOT / compose["configs"]["cluster"]["file"])
    settings = config.service_settings()
    services = of_profile(compose, "cluster")
    assert urlsplit(settings.store).hostname in services
    assert settings.second_pass_url is not None
    assert urlsplit(settings.second_pass_url).hostname in services
    assert config.http.port == 8000, "the port that the head publishes"


def test_the_least_replicas_fit_the_nodes(compose: dict[str, Any]) -> None:
    config = read_cluster_file(ROOT / compose["configs"]["cluster"]["file"])
    processors = 0
    for service in of_profile(compose, "cluster").values():
        start = " ".join(service.get("entrypoint", []))
        if each := re.search(r"--num-cpus=(\d+)", start):
            nodes = service.get("deploy", {}).get("replicas", 1)
            processors += nodes * int(each[1])
    assert least_processors(config) <= processors


def test_the_engines_are_those_that_the_tests_run() -> None:
    """The pins of requirements-engines.txt, which is of the image alone."""
    tested: dict[str, str] = {}
    for name in ("dev", "stores", "cluster"):
        tested |= pins(f"requirements-{name}.txt")
    engines = pins("requirements-engines.txt")
    assert engines.keys() <= tested.keys()
    assert engines == {name: tested[name] for name in engines}


def pins(file: str) -> dict[str, str]:
    """The version of each package in a file of requirements, by its normalized name."""
    lines = (ROOT / file).read_text().splitlines()
    pinned = (line.split("==") for line in lines if "==" in line)
    return {name.lower().replace("_", "-"): version for name, version in pinned}


def test_the_settings_are_the_service_s(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        ours = set(filter(OURS.fullmatch, service.get("environment", {})))
        assert ours <= SETTINGS, name


@pytest.mark.parametrize("name", ["precis", "precis-gpu"])
def test_a_service_that_stops_may_end_its_requests(
    compose: dict[str, Any], name: str
) -> None:
    """Docker kills it otherwise, before it has answered those that take too long."""
    period = re.findall(r"(\d+)([ms])", compose["services"][name]["stop_grace_period"])
    assert (
        sum(int(number) * {"m": 60, "s": 1}[unit] for number, unit in period) > GRACE_S
    )


def test_the_build_arguments_are_the_dockerfile_s(compose: dict[str, Any]) -> None:
    declared = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    given = set()
    for service in compose["services"].values():
        given |= set(service.get("build", {}).get("args", {}))
    assert given
    assert given <= declared


def test_what_is_not_built_here_has_a_version(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if "build" not in service:
            _, _, tag = service["image"].partition(":")
            assert re.search(r"\d", tag), name


def test_the_build_sees_what_it_copies() -> None:
    """Of .dockerignore, which leaves out all but what it lists."""
    first, *rest = (ROOT / ".dockerignore").read_text().splitlines()
    assert first == "*"
    seen = {line[1:] for line in rest if line.startswith("!")}
    copied = set()
    for line in re.findall(r"^COPY (.+)", DOCKERFILE, re.MULTILINE):
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        copied |= set(sources)
    assert copied
    assert copied <= seen
    assert all((ROOT / path).exists() for path in copied)
