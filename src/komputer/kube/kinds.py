"""The kinds of objects that the platform reads and writes, and their paths in the Kubernetes API."""

import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from komputer.domain import names
from komputer.domain.errors import Invalid

Manifest: TypeAlias = dict[str, Any]
"""An object as the Kubernetes API writes it in JSON, always with `apiVersion`, `kind` and `metadata`."""

_PATH_SEGMENT: Final = re.compile(r"(?!\.{1,2}\Z)[^/%\x00-\x20\x7f]+")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object. `group` is empty for the core group; `plural` is used in paths."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path of an object, or without `name` of the collection (without `namespace`: of all namespaces).
        Raises Invalid for a text that cannot be a name, so that no name from a client leads to another path."""
        path = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace and self.namespaced:
            path += f"/namespaces/{_segment(namespace, 'metadata.namespace')}"
        path += f"/{self.plural}"
        if name is None:
            return path
        if self.namespaced and not namespace:
            raise Invalid(f"{self.kind} {name!r} lives in a namespace; none was named", field="metadata.namespace")
        path += f"/{_segment(name, 'metadata.name')}"
        return f"{path}/{subresource}" if subresource else path

    def of(self, name: str | None, namespace: str | None = None) -> str:
        """Return the name of the object for messages: `KomputerAgent team/ada`; without `name` that of the collection:
        `KomputerAgents in team`."""
        if name is None:
            return f"{self.kind}s in {namespace}" if namespace and self.namespaced else f"{self.kind}s"
        return f"{self.kind} {namespace}/{name}" if namespace and self.namespaced else f"{self.kind} {name}"


def _segment(text: str, field: str) -> str:
    if _PATH_SEGMENT.fullmatch(text) is None:
        raise Invalid(
            f"{text!r} cannot be a name: it is empty, dots, or has a slash, percent or control sign", field=field
        )
    return quote(text, safe="")


AGENTS: Final = Kind(names.GROUP, names.VERSION, "komputeragents", "KomputerAgent")
TEMPLATES: Final = Kind(names.GROUP, names.VERSION, "komputeragenttemplates", "KomputerAgentTemplate")
CLUSTER_TEMPLATES: Final = Kind(
    names.GROUP, names.VERSION, "komputeragentclustertemplates", "KomputerAgentClusterTemplate", namespaced=False
)
CONFIGS: Final = Kind(names.GROUP, names.VERSION, "komputerconfigs", "KomputerConfig", namespaced=False)
CONNECTORS: Final = Kind(names.GROUP, names.VERSION, "komputerconnectors", "KomputerConnector")
PODS: Final = Kind("", "v1", "pods", "Pod")
PVCS: Final = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
CONFIG_MAPS: Final = Kind("", "v1", "configmaps", "ConfigMap")
SECRETS: Final = Kind("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS: Final = Kind("", "v1", "serviceaccounts", "ServiceAccount")
NETWORK_POLICIES: Final = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
LEASES: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease")
NAMESPACES: Final = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
EVENTS: Final = Kind("", "v1", "events", "Event")
CRDS: Final = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
TOKEN_REVIEWS: Final = Kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEWS: Final = Kind(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
