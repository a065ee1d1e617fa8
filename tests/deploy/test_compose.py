"""The compose file follows the specification, and each of its profiles holds together.

`compose-spec` reads it as the specification says, without containers to run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from compose_spec import PyOptions

from service.settings import Settings
from tests.docs.blocks import ROOT

Service = dict[str, Any]

PROFILES = ("single", "gpu")
SETTINGS = {f"PRECIS_{name.upper()}" for name in Settings.model_fields}
OURS = re.compile(r"PRECIS_\w+")
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def compose_file(text: str) -> dict[str, Any]:
    """The file as the specification reads it, anchors merged; raises ValueError if it does not."""
    read = PyOptions(apply_merge=True).from_yaml(text)
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


def test_the_settings_are_the_service_s(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        ours = set(filter(OURS.fullmatch, service.get("environment", {})))
        assert ours <= SETTINGS, name


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
