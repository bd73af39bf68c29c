"""The agent's pod: the template's, hardened, with one identity, one disk and one door."""

import copy
import hashlib
import json
from typing import Any, Final

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec
from komputer.domain.template import TemplateSpec
from komputer.operator.agent.desired.metadata import metadata

STOP_GRACE_S: Final = 30
"""terminationGracePeriodSeconds: a runtime leaves within 25 s of SIGTERM, its task interrupted and written down."""
TOKEN_LIFE_S: Final = 3600
USER_ID: Final = 1000

WORKSPACE_VOLUME: Final = "workspace"
TOKEN_VOLUME: Final = "komputer-token"
TMP_VOLUME: Final = "komputer-tmp"
TMP_PATH: Final = "/tmp"
CREDENTIAL_VARIABLES: Final = frozenset({"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"})
"""Of older templates. They are left out: the gateway holds the model's credential, no pod does."""

POD_SECURITY: Final[Manifest] = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""Defaults both: a template, which only those may write who may say what pods look like, can loosen each by name."""


class PodImpossible(ValueError):
    """The template is no PodSpec that an agent could run in; the message says why."""


def pod(agent: Agent, template: TemplateSpec, config: ConfigSpec) -> Manifest:
    """The pod of `agent`. Raises `PodImpossible` where the template has no usable container."""
    spec = copy.deepcopy(template.pod_spec)
    containers = _objects(spec, "containers")
    if not containers:
        raise PodImpossible("podSpec.containers is empty: one container, named agent or the first, runs the agent")
    inits, volumes = _objects(spec, "initContainers"), _objects(spec, "volumes")
    runs_agent = next((c for c in containers if c.get("name") == names.AGENT_CONTAINER), containers[0])
    for container in (*containers, *inits):
        container["securityContext"] = {**CONTAINER_SECURITY, **_object(container, "securityContext")}
    _equip(runs_agent, agent)
    ours = {volume["name"]: volume for volume in _volumes(agent)}
    spec |= {
        "restartPolicy": "Always",
        "serviceAccountName": names.SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": spec.get("terminationGracePeriodSeconds", STOP_GRACE_S),
        "securityContext": {**POD_SECURITY, **_object(spec, "securityContext")},
        "volumes": [v for v in volumes if v.get("name") not in ours] + list(ours.values()),
    }
    spec.pop("serviceAccount", None)
    about = metadata(agent, names.pod_name(agent.metadata.name))
    about["annotations"] = {
        names.MADE_FROM_ANNOTATION: digest(spec),
        names.GATEWAY_ANNOTATION: config.gateway_url,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}


def digest(spec: Manifest) -> str:
    """Stands for a pod's spec as it was asked for; the API server's defaults are not part of it."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def _equip(container: Manifest, agent: Agent) -> None:
    """What the runtime finds around it. What the template says of the same names or places gives way."""
    env = {"KOMPUTER_TOKEN_FILE": names.TOKEN_PATH, "KOMPUTER_WORKSPACE": names.WORKSPACE_PATH}
    taken = CREDENTIAL_VARIABLES | env.keys() | {"KOMPUTER_AGENT", "KOMPUTER_NAMESPACE", "KOMPUTER_GATEWAY_URL"}
    container["env"] = [
        *(entry for entry in _objects(container, "env") if entry.get("name") not in taken),
        *({"name": name, "value": value} for name, value in env.items()),
    ]
    # Ours is the last source, so that it wins over a template's of the same keys.
    container["envFrom"] = [
        *_objects(container, "envFrom"),
        {"configMapRef": {"name": names.settings_name(agent.metadata.name)}},
    ]
    mounts = {
        names.WORKSPACE_PATH: {"name": WORKSPACE_VOLUME, "mountPath": names.WORKSPACE_PATH},
        _token_directory(): {"name": TOKEN_VOLUME, "mountPath": _token_directory(), "readOnly": True},
        TMP_PATH: {"name": TMP_VOLUME, "mountPath": TMP_PATH},
    }
    given = [
        mount
        for mount in _objects(container, "volumeMounts")
        if mount.get("name") != WORKSPACE_VOLUME
        and str(mount.get("mountPath", "")).rstrip("/") not in (names.WORKSPACE_PATH, _token_directory())
    ]
    if any(str(mount.get("mountPath", "")).rstrip("/") == TMP_PATH for mount in given):
        del mounts[TMP_PATH]
    container["volumeMounts"] = [*given, *mounts.values()]


def _volumes(agent: Agent) -> list[Manifest]:
    return [
        {
            "name": WORKSPACE_VOLUME,
            "persistentVolumeClaim": {"claimName": names.pvc_name(agent.metadata.name)},
        },
        {
            "name": TOKEN_VOLUME,
            "projected": {
                "sources": [
                    {
                        "serviceAccountToken": {
                            "audience": names.GATEWAY_AUDIENCE,
                            "expirationSeconds": TOKEN_LIFE_S,
                            "path": names.TOKEN_PATH.rpartition("/")[2],
                        }
                    }
                ]
            },
        },
        {"name": TMP_VOLUME, "emptyDir": {}},
    ]


def _token_directory() -> str:
    return names.TOKEN_PATH.rpartition("/")[0]


def _objects(parent: Manifest, field: str) -> list[Manifest]:
    found: Any = parent.get(field) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise PodImpossible(f"podSpec: {field} is not a list of objects")
    return found


def _object(parent: Manifest, field: str) -> Manifest:
    found: Any = parent.get(field) or {}
    if not isinstance(found, dict):
        raise PodImpossible(f"podSpec: {field} is not an object")
    return found
