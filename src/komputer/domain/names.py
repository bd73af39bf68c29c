"""Every group, label and child name that we use. Nothing else spells them out."""

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
"""On a Secret that we made of a connector's token."""
SERVICE_LABEL: Final = "komputer.ai/service"
PLATFORM_LABEL: Final = "komputer.ai/platform"
"""On a Secret of the platform itself (any value): no connector may send it anywhere, no agent gets it."""
OFFICE_LABEL: Final = "komputer.ai/office"
"""On the agents that a manager made: all of one manager's have the same."""

MADE_FROM_ANNOTATION: Final = "komputer.ai/made-from"
"""On a pod: a digest of all that its manifest was made from. A template that changes applies to the next pod only."""
GATEWAY_ANNOTATION: Final = "komputer.ai/gateway-url"
"""On a pod: where it was told that the gateway is. A pod with an old address reaches nobody, and is replaced."""
REMADE_ANNOTATION: Final = "komputer.ai/remade"
"""On a pod: how many pods in a row failed before it; the back-off grows with it."""
SILENT_ANNOTATION: Final = "komputer.ai/silent"
"""On a pod: how many pods in a row were deleted before it because their runtimes were silent."""

CREATED_BY_ANNOTATION: Final = "komputer.ai/created-by-task"
"""On an agent: its first task, so that a creation which is asked for again is recognised."""

DEFAULT_NAMESPACE: Final = "default"
DEFAULT_MODEL: Final = "claude-sonnet-4-6"
DEFAULT_TEMPLATE: Final = "default"
CONFIG_NAME: Final = "default"
"""KomputerConfig is a singleton of this name; others are ignored."""

SERVICE_ACCOUNT: Final = "komputer-agent"
"""One per namespace, without any right: a pod's token says which pod it is, and nothing more."""
GATEWAY_AUDIENCE: Final = "komputer-gateway"
AGENT_CONTAINER: Final = "agent"

WORKSPACE_PATH: Final = "/workspace"
TOKEN_PATH: Final = "/var/run/secrets/komputer/token"
SETTINGS_PATH: Final = "/etc/komputer"

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def is_agent_name(name: str) -> bool:
    """Lower-case letters, digits and hyphens, 1 to 63 characters, not beginning or ending with a hyphen."""
    return len(name) <= 63 and _NAME.fullmatch(name) is not None


def office_name(manager: str) -> str:
    """`<manager>-office`; of a long name the beginning and a digest, since a label's value ends at 63 characters."""
    whole = f"{manager}-office"
    return whole if len(whole) <= 63 else f"{manager[:47]}-{hashlib.sha256(manager.encode()).hexdigest()[:8]}-office"


def pod_name(agent: str) -> str:
    return f"{agent}-pod"


def pvc_name(agent: str) -> str:
    return f"{agent}-pvc"


def settings_name(agent: str) -> str:
    """The ConfigMap with the runtime's settings; it holds no secret."""
    return f"{agent}-config"


def secrets_name(agent: str) -> str:
    return f"{agent}-secrets"
