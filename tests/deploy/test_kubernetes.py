"""The manifests in deploy/kubernetes: valid, and fitting each other and the service.

Kubernetes' own kinds are checked by its schemas, the RayService by tests/deploy/kuberay.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from service.cluster.config import ClusterConfig, cluster_config
from tests.deploy.kuberay import RAY_SERVICE
from tests.deploy.test_compose import least_processors
from tests.docs.blocks import ROOT, read

Manifest = dict[str, Any]

FOLDER = ROOT / "deploy" / "kubernetes"
KUBERNETES = "1.33"
PAGE = "docs/how-to/kubernetes.md"
SERVE_PORT = 8000


def manifests() -> list[Manifest]:
    """All that the kustomization applies."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    listed = [FOLDER / name for name in kustomization["resources"]]
    there = set(FOLDER.glob("*.yaml")) - {FOLDER / "kustomization.yaml"}
    assert set(listed) == there
    return [document for path in listed for document in documents(path)]


def documents(path: Path) -> list[Manifest]:
    """The documents of a file."""
    return list(yaml.safe_load_all(path.read_text()))


MANIFESTS = manifests()
(RAY,) = [each for each in MANIFESTS if each["kind"] == "RayService"]
CLUSTER: Manifest = RAY["spec"]["rayClusterConfig"]
GROUPS: list[Manifest] = CLUSTER["workerGroupSpecs"]
SERVE: Manifest = yaml.safe_load(RAY["spec"]["serveConfigV2"])
RAY_TEMPLATES = [CLUSTER["headGroupSpec"]["template"], *(g["template"] for g in GROUPS)]


def title(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def found(value: Any, name: str) -> Iterator[Any]:
    """Every member of this name, at any depth."""
    if isinstance(value, dict):
        if name in value:
            yield value[name]
        for member in value.values():
            yield from found(member, name)
    elif isinstance(value, list):
        for member in value:
            yield from found(member, name)


def templates() -> dict[str, Manifest]:
    """Every pod template, by its labels."""
    own = [
        each["spec"]["template"]
        for each in MANIFESTS
        if each["kind"] in {"Deployment", "StatefulSet"}
    ]
    return {str(each["metadata"]["labels"]): each for each in [*own, *RAY_TEMPLATES]}


def all_containers() -> list[Manifest]:
    return [
        container
        for template in templates().values()
        for role in ("initContainers", "containers")
        for container in template["spec"].get(role, [])
    ]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector, or the plain one of a Service, matches."""
    expected = selector.get("matchLabels", {})
    if not {"matchLabels", "matchExpressions"} & set(selector):
        expected = selector
    for condition in selector.get("matchExpressions", []):
        assert condition["operator"] == "In"
        if labels.get(condition["key"]) not in condition["values"]:
            return False
    return expected.items() <= labels.items()


@pytest.mark.parametrize(
    "manifest", [each for each in MANIFESTS if each is not RAY], ids=title
)
def test_kubernetes_accepts_it(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_rayservice_has_fields_that_kuberay_knows() -> None:
    jsonschema.validate(RAY, RAY_SERVICE)


@pytest.mark.parametrize("template", RAY_TEMPLATES, ids=lambda t: str(t["metadata"]))
def test_kubernetes_accepts_the_pods_of_ray(template: Manifest) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": "ray"},
        "template": template,
    }
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("field", ["spec", "serveConfigV2"])
def test_a_mistake_in_the_rayservice_would_be_found(field: str) -> None:
    spec = {**RAY["spec"], "serveConfig": ""}
    wrong = {**RAY, "spec": spec} if field == "spec" else {**RAY, "spec": {}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, RAY_SERVICE)


def application() -> Manifest:
    (only,) = SERVE["applications"]
    assert isinstance(only, dict)
    return only


def config() -> ClusterConfig:
    return cluster_config(application()["args"])


def test_ray_serve_is_given_our_entry_and_a_config_that_it_takes() -> None:
    module, _, function = application()["import_path"].partition(":")
    source = (ROOT / Path(*module.split("."))).with_suffix(".py").read_text()
    assert f"\ndef {function}(" in source
    settings = config().service_settings()
    assert settings.second_pass_engine == "vllm"


def test_the_ray_version_is_the_image_s() -> None:
    assert f"ray=={CLUSTER['rayVersion']}" in read("requirements-cluster.txt").split()


def test_the_service_s_addresses_lead_to_services() -> None:
    settings = config().service_settings()
    options = CLUSTER["gcsFaultToleranceOptions"]
    addresses = {
        "postgres": f"{settings.store}:5432",
        "vllm": settings.second_pass_url,
        "redis": options["redisAddress"],
    }
    services = [each for each in MANIFESTS if each["kind"] == "Service"]
    assert {each["metadata"]["name"] for each in services} == set(addresses)
    for service in services:
        name = service["metadata"]["name"]
        (port,) = service["spec"]["ports"]
        assert re.search(rf"\b{name}(/|:{port['port']})", str(addresses[name]))


def test_each_selector_finds_pods() -> None:
    labels = [each["metadata"]["labels"] for each in templates().values()]
    for manifest in MANIFESTS:
        spec = manifest["spec"]
        for selector in [*found(spec, "selector"), *found(spec, "podSelector")]:
            outside = selects(selector, {"app.kubernetes.io/name": "kuberay-operator"})
            assert outside or any(selects(selector, each) for each in labels)


def test_only_the_service_s_port_is_open_to_all() -> None:
    policies = [each for each in MANIFESTS if each["kind"] == "NetworkPolicy"]
    for template in templates().values():
        labels = template["metadata"]["labels"]
        ingress = [
            rule
            for policy in policies
            if selects(policy["spec"]["podSelector"], labels)
            for rule in policy["spec"]["ingress"]
        ]
        assert ingress, f"no policy guards {labels}"
        open_rules = [rule for rule in ingress if "from" not in rule]
        ports = {port["port"] for rule in open_rules for port in rule["ports"]}
        is_ours = labels["app.kubernetes.io/name"] == "precis"
        assert ports == ({SERVE_PORT} if is_ours else set())


def test_secrets_are_those_that_the_page_makes() -> None:
    made = set(re.findall(r"--from-literal=([\w-]+)=", read(PAGE)))
    references = list(found(MANIFESTS, "secretKeyRef"))
    assert {each["name"] for each in references} == {"precis"}
    assert {each["key"] for each in references} == made
    for container in all_containers():
        for variable in container.get("env", []):
            is_secret = re.search("KEY|PASSWORD", variable["name"])
            assert ("valueFrom" in variable) == bool(is_secret), variable["name"]


def test_each_container_is_probed_limited_and_unprivileged() -> None:
    for template in templates().values():
        for container in template["spec"]["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= set(container)
    for container in all_containers():
        name = container["name"]
        assert "memory" in container["resources"]["limits"], name
        assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
        assert container["image"] == "precis" or re.search(
            r":v?\d", container["image"]
        ), name


def test_each_mount_has_its_volume() -> None:
    for manifest in MANIFESTS:
        claims = found(manifest["spec"], "volumeClaimTemplates")
        made = {claim["metadata"]["name"] for each in claims for claim in each}
        for template in found(manifest["spec"], "template"):
            pod = template.get("spec", {})
            volumes = {volume["name"] for volume in pod.get("volumes", [])}
            for mounts in found(pod, "volumeMounts"):
                assert {mount["name"] for mount in mounts} <= volumes | made


def quantity(resources: Manifest, name: str) -> float:
    return float(resources["requests"].get(name, 0))


def test_the_least_replicas_fit_the_least_pods() -> None:
    """Otherwise the service never becomes ready."""
    pods = {
        group["groupName"]: (
            group["minReplicas"],
            group["template"]["spec"]["containers"][0]["resources"],
        )
        for group in GROUPS
    }
    cluster = config()
    count, resources = pods["first-pass"]
    first = cluster.first_pass
    assert first.gpus == 1
    assert first.min_replicas * first.gpus <= count * quantity(
        resources, "nvidia.com/gpu"
    )
    assert first.cpus <= quantity(resources, "cpu")
    count, resources = pods["service"]
    in_group = least_processors(cluster) - first.min_replicas * first.cpus
    assert in_group <= count * quantity(resources, "cpu")
