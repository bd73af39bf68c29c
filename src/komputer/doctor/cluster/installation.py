"""An installation on a cluster, as its administrator sees it."""

from pathlib import Path
from typing import Any, Final

from komputer.domain import names
from komputer.kube import CLUSTER_TEMPLATES, Cluster, Kind

DEPLOYMENTS: Final = Kind("apps", "v1", "deployments", "Deployment")
PART_OF: Final = "app.kubernetes.io/part-of=komputer"
COMPONENT: Final = "app.kubernetes.io/component"
PARTS: Final = ("api", "gateway", "operator")


class Installation:
    """The installation on the cluster of `kubeconfig` (None: this pod's cluster), in `namespace` (empty: it is searched
    in all namespaces). With `runs_pods` a check may start a pod for some seconds."""

    def __init__(self, cluster: Cluster, kubeconfig: Path | None, namespace: str, *, runs_pods: bool) -> None:
        self.cluster = cluster
        self.kubeconfig = kubeconfig
        self.runs_pods = runs_pods
        self.deployments: dict[str, dict[str, Any]] = {}
        """The Deployment of each part that `find_deployments` found."""
        self._namespace = namespace

    async def find_deployments(self) -> None:
        """Read the Deployments of the parts. Raises `KomputerError`."""
        listed = await self.cluster.list(DEPLOYMENTS, self._namespace or None, PART_OF)
        self.deployments = {each["metadata"]["labels"].get(COMPONENT, ""): each for each in listed.items}

    @property
    def namespace(self) -> str:
        """The namespace of the parts. Known after `find_deployments`."""
        return str(self.deployments[PARTS[0]]["metadata"]["namespace"])

    @property
    def has_parts(self) -> bool:
        return all(part in self.deployments for part in PARTS)

    def service_account(self, part: str) -> str:
        return str(self.deployments[part]["spec"]["template"]["spec"]["serviceAccountName"])

    def watched_namespaces(self, part: str) -> list[str | None]:
        """Return the namespaces that the part was configured to watch; `[None]` stands for all."""
        (container, *_) = self.deployments[part]["spec"]["template"]["spec"]["containers"]
        variables = {entry["name"]: entry.get("value", "") for entry in container.get("env", ())}
        listed = variables.get("KOMPUTER_NAMESPACES")
        return [each.strip() for each in listed.split(",")] if listed else [None]

    async def default_template(self) -> dict[str, Any]:
        """Return the spec of the default agent template. Raises `NotFound`."""
        found = await self.cluster.get(CLUSTER_TEMPLATES, names.DEFAULT_TEMPLATE)
        return dict(found["spec"])
