"""The names of API groups, labels, annotations and child objects. They are written here and nowhere else."""

import hashlib
import re
from typing import Final

GROUP: Final = "komputer.komputer.ai"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

AGENT_LABEL: Final = "komputer.ai/agent-name"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "komputer"
RESERVED_LABEL_PREFIX: Final = "komputer.ai/"
CONNECTOR_LABEL: Final = "komputer.ai/connector-name"
"""Label on a Secret that the platform created for the token of a connector."""
SERVICE_LABEL: Final = "komputer.ai/service"
PLATFORM_LABEL: Final = "komputer.ai/platform"
"""Label on a Secret of the platform itself (any value). No connector may send it, and no agent gets it."""
OFFICE_LABEL: Final = "komputer.ai/office"
"""Label on the agents that a manager created. All agents of one manager have the same value."""

MADE_FROM_ANNOTATION: Final = "komputer.ai/made-from"
"""Annotation on a pod: a digest of all inputs from which its manifest was created. A changed template applies to the
next pod only."""
GATEWAY_ANNOTATION: Final = "komputer.ai/gateway-url"
"""Annotation on a pod: the address of the gateway that it uses. A pod with an old address is replaced."""
REMADE_ANNOTATION: Final = "komputer.ai/remade"
"""Annotation on a pod: how many pods in a row failed before it. The back-off grows with this number."""
SILENT_ANNOTATION: Final = "komputer.ai/silent"
"""Annotation on a pod: how many pods in a row were deleted before it because their runtimes were silent."""

CREATED_BY_ANNOTATION: Final = "komputer.ai/created-by-task"
"""Annotation on an agent: the id of its first task, by which a repeated request to create it is recognised."""

DEFAULT_NAMESPACE: Final = "default"
DEFAULT_MODEL: Final = "claude-sonnet-4-6"
DEFAULT_TEMPLATE: Final = "default"
CONFIG_NAME: Final = "default"
"""KomputerConfig is a singleton of this name; others are ignored."""

SERVICE_ACCOUNT: Final = "komputer-agent"
"""The ServiceAccount of the pods, one in each namespace. It has no rights: the token of a pod only proves which pod it
is."""
GATEWAY_AUDIENCE: Final = "komputer-gateway"
AGENT_CONTAINER: Final = "agent"

WORKSPACE_PATH: Final = "/workspace"
TOKEN_PATH: Final = "/var/run/secrets/komputer/token"
SETTINGS_PATH: Final = "/etc/komputer"

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def is_agent_name(name: str) -> bool:
    """Return whether this can be the name of an agent: 1 to 63 lower-case letters, digits and hyphens, not beginning or
    ending with a hyphen."""
    return len(name) <= 63 and _NAME.fullmatch(name) is not None


def office_name(manager: str) -> str:
    """Return `<manager>-office`. A long name is cut and gets a digest, because a label's value has at most 63
    characters."""
    whole = f"{manager}-office"
    return whole if len(whole) <= 63 else f"{manager[:47]}-{hashlib.sha256(manager.encode()).hexdigest()[:8]}-office"


def pod_name(agent: str) -> str:
    return f"{agent}-pod"


def pvc_name(agent: str) -> str:
    return f"{agent}-pvc"


def settings_name(agent: str) -> str:
    """Return the name of the ConfigMap with the settings of the runtime. The ConfigMap contains no secret."""
    return f"{agent}-config"


def secrets_name(agent: str) -> str:
    return f"{agent}-secrets"
