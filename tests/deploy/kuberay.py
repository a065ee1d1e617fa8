"""The fields of KubeRay's RayService that our manifest may use, as a JSON schema.

Written from the API reference of KubeRay 1.6 (`ray.io/v1`), of which it is a part: what is not
listed here is refused, though KubeRay may know it. Pod templates are Kubernetes' own.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def record(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object with these members and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


ANY_OBJECT: Schema = {"type": "object"}
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXTS_BY_NAME: Schema = {"type": "object", "additionalProperties": {"type": "string"}}

CREDENTIAL = record(valueFrom=ANY_OBJECT)  # never the value itself, which is a secret
HEAD = record(
    ("rayStartParams", "template"), rayStartParams=TEXTS_BY_NAME, template=ANY_OBJECT
)
WORKERS = record(
    ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=TEXTS_BY_NAME,
    template=ANY_OBJECT,
)
CLUSTER = record(
    ("headGroupSpec",),
    rayVersion=TEXT,
    enableInTreeAutoscaling={"type": "boolean"},
    gcsFaultToleranceOptions=record(redisAddress=TEXT, redisPassword=CREDENTIAL),
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": WORKERS, "minItems": 1},
)
RAY_SERVICE = record(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayService"},
    metadata=ANY_OBJECT,
    spec=record(
        ("serveConfigV2", "rayClusterConfig"),
        excludeHeadPodFromServeSvc={"type": "boolean"},
        upgradeStrategy=record(type={"enum": ["NewCluster", "None"]}),
        serveConfigV2=TEXT,
        rayClusterConfig=CLUSTER,
    ),
)
