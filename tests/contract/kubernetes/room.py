"""The namespace of one test on the server, and the manifests that tests create there."""

from dataclasses import dataclass
from typing import Any

from tests.contract.kubernetes.cluster import JSON, MERGE, Api, answered, eventually

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAMESPACES = "/api/v1/namespaces"


def established(api: Api, definition: str) -> JSON:
    """Return the definition once its kind is served."""

    def is_established(crd: JSON) -> bool:
        conditions = crd.get("status", {}).get("conditions") or []
        return any((c["type"], c["status"]) == ("Established", "True") for c in conditions)

    crd = eventually(lambda: answered(api.get(f"{CRDS}/{definition}")), is_established)
    spec = crd["spec"]
    path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
    eventually(lambda: api.get(path).status_code, lambda code: code == 200)
    return crd


@dataclass(frozen=True, kw_only=True)
class Room:
    """The namespace of one test. Paths are `room.path("pods", "web", "status")`; the writes check that they
    succeeded."""

    api: Api
    namespace: str
    group: str

    def path(self, plural: str, *rest: str, namespace: str | None = None) -> str:
        prefix = {
            "widgets": f"/apis/{self.group}/v1",
            "leases": "/apis/coordination.k8s.io/v1",
        }.get(plural, "/api/v1")
        return "/".join((prefix, "namespaces", namespace or self.namespace, plural, *rest))

    def everywhere(self, plural: str) -> str:
        """Return the path of a kind's objects in all namespaces."""
        return self.path(plural).replace(f"/namespaces/{self.namespace}", "")

    def create(self, plural: str, body: JSON) -> JSON:
        return answered(self.api.post(self.path(plural), body), 201)

    def read(self, plural: str, name: str) -> JSON:
        return answered(self.api.get(self.path(plural, name)))

    def listing(self, plural: str, **params: Any) -> JSON:
        return answered(self.api.get(self.path(plural), **params))

    def names(self, plural: str, **params: Any) -> list[str]:
        return [item["metadata"]["name"] for item in self.listing(plural, **params)["items"]]

    def merge(self, plural: str, name: str, patch: JSON, *subresource: str) -> JSON:
        return answered(self.api.patch(self.path(plural, name, *subresource), patch, MERGE))

    def exists(self, plural: str, name: str) -> bool:
        return self.api.get(self.path(plural, name)).status_code == 200

    def await_gone(self, plural: str, name: str) -> None:
        eventually(lambda: self.exists(plural, name), lambda there: not there)

    def widget(self, name: str, *, labels: JSON | None = None, metadata: JSON | None = None, **spec: Any) -> JSON:
        """Return the manifest of a widget, red by default."""
        return {
            "apiVersion": f"{self.group}/v1",
            "kind": "Widget",
            "metadata": {"name": name} | ({"labels": labels} if labels else {}) | (metadata or {}),
            "spec": {"color": "red", **spec},
        }

    def config_map(self, name: str, data: JSON | None = None, **metadata: Any) -> JSON:
        """Return the manifest of a ConfigMap."""
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data or {}}

    def pod(self, name: str, *, metadata: JSON | None = None, **spec: Any) -> JSON:
        """Return the manifest of a pod with one container, whose ServiceAccount exists when this returns."""
        account = spec.get("serviceAccountName", "default")
        eventually(lambda: self.exists("serviceaccounts", account), bool)
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **(metadata or {})},
            "spec": {"containers": [{"name": "main", "image": "nothing"}], **spec},
        }


def owned_by(owner: JSON, **more: Any) -> JSON:
    """Return an ownerReference to `owner`."""
    identity = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
    return {**identity, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], **more}
