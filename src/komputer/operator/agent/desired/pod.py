"""The agent's pod: the template's PodSpec, hardened, with the agent's token, disk and settings."""

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
"""terminationGracePeriodSeconds. A runtime interrupts its task, records that and exits within 25 s of SIGTERM."""
TOKEN_LIFE_S: Final = 3600
USER_ID: Final = 1000

WORKSPACE_VOLUME: Final = "workspace"
TOKEN_VOLUME: Final = "komputer-token"
TMP_VOLUME: Final = "komputer-tmp"
TMP_PATH: Final = "/tmp"
CREDENTIAL_VARIABLES: Final = frozenset({"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"})
"""Variables of older templates. They are removed: only the gateway has the model's credential."""

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
"""This and the pod's security context are defaults: a template can override each field. Whoever may write templates
decides what pods may do."""


class PodImpossible(ValueError):
    """The template is not a PodSpec that an agent can run in; the message says why."""


def pod(agent: Agent, template: TemplateSpec, config: ConfigSpec) -> Manifest:
    """Return the pod of `agent`. Raises `PodImpossible` if the template has no usable container."""
    spec = copy.deepcopy(template.pod_spec)
    containers = _objects(spec, "containers")
    if not containers:
        raise PodImpossible("podSpec.containers is empty: one container, named agent or the first, runs the agent")
    inits, volumes = _objects(spec, "initContainers"), _objects(spec, "volumes")
    agent_container = next((c for c in containers if c.get("name") == names.AGENT_CONTAINER), containers[0])
    for container in (*containers, *inits):
        container["securityContext"] = {**CONTAINER_SECURITY, **_object(container, "securityContext")}
    _add_runtime(agent_container, agent)
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
    child_metadata = metadata(agent, names.pod_name(agent.metadata.name))
    child_metadata["annotations"] = {
        names.MADE_FROM_ANNOTATION: digest(spec),
        names.GATEWAY_ANNOTATION: config.gateway_url,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": child_metadata, "spec": spec}


def digest(spec: Manifest) -> str:
    """Return 16 hex digits that identify a pod's spec as requested, without the API server's defaults."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def _add_runtime(container: Manifest, agent: Agent) -> None:
    """Add the runtime's environment and mounts, which replace those of the template with the same names or paths."""
    env = {"KOMPUTER_TOKEN_FILE": names.TOKEN_PATH, "KOMPUTER_WORKSPACE": names.WORKSPACE_PATH}
    reserved = CREDENTIAL_VARIABLES | env.keys() | {"KOMPUTER_AGENT", "KOMPUTER_NAMESPACE", "KOMPUTER_GATEWAY_URL"}
    container["env"] = [
        *(entry for entry in _objects(container, "env") if entry.get("name") not in reserved),
        *({"name": name, "value": value} for name, value in env.items()),
    ]
    # Of two sources with the same variable the last one wins, so the operator's comes after the template's.
    container["envFrom"] = [
        *_objects(container, "envFrom"),
        {"configMapRef": {"name": names.settings_name(agent.metadata.name)}},
    ]
    mounts = {
        names.WORKSPACE_PATH: {"name": WORKSPACE_VOLUME, "mountPath": names.WORKSPACE_PATH},
        _token_directory(): {"name": TOKEN_VOLUME, "mountPath": _token_directory(), "readOnly": True},
        TMP_PATH: {"name": TMP_VOLUME, "mountPath": TMP_PATH},
    }
    own_mounts = [
        mount
        for mount in _objects(container, "volumeMounts")
        if mount.get("name") != WORKSPACE_VOLUME
        and str(mount.get("mountPath", "")).rstrip("/") not in (names.WORKSPACE_PATH, _token_directory())
    ]
    if any(str(mount.get("mountPath", "")).rstrip("/") == TMP_PATH for mount in own_mounts):
        del mounts[TMP_PATH]
    container["volumeMounts"] = [*own_mounts, *mounts.values()]


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
