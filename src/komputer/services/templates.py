"""Lists the templates that agents may name."""

from typing import Literal

from komputer.domain.base import WireModel
from komputer.kube import CLUSTER_TEMPLATES, TEMPLATES, Cluster


class TemplateView(WireModel):
    """The name of a template. A namespace's template takes precedence over the cluster's of the same name."""

    name: str
    scope: Literal["cluster", "namespace"]
    namespace: str | None = None


async def templates(cluster: Cluster, namespace: str) -> list[TemplateView]:
    """Return the templates of the cluster, then those of the namespace, each ordered by name."""
    shared = sorted(m["metadata"]["name"] for m in (await cluster.list(CLUSTER_TEMPLATES)).items)
    own = sorted(m["metadata"]["name"] for m in (await cluster.list(TEMPLATES, namespace)).items)
    return [
        *(TemplateView(name=name, scope="cluster") for name in shared),
        *(TemplateView(name=name, scope="namespace", namespace=namespace) for name in own),
    ]
