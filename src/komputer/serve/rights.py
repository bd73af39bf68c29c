"""What each part asks of the Kubernetes API. The chart grants it (`tests/chart` holds the two together), `komputer
doctor` asks whether it is granted, and `docs/security.md` has the reason for each verb."""

from typing import Final, NamedTuple

GROUP: Final = "komputer.komputer.ai"


class Right(NamedTuple):
    """`verbs` on `resources` (with their subresource) of API group `group`."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]


READ: Final = ("get", "list", "watch")
IN_NAMESPACES: Final[dict[str, tuple[Right, ...]]] = {
    "api": (
        Right(GROUP, ("komputeragents", "komputerconnectors"), (*READ, "create", "patch", "delete")),
        Right(GROUP, ("komputeragenttemplates",), ("list",)),
        Right("", ("secrets",), ("get", "list", "create", "patch", "delete")),
    ),
    "gateway": (
        Right(GROUP, ("komputeragents",), (*READ, "create", "patch", "delete")),
        Right(GROUP, ("komputerconnectors",), READ),
        Right("", ("pods",), READ),
        Right("", ("secrets",), ("get",)),
    ),
    "operator": (
        Right(GROUP, ("komputeragents",), READ),
        Right(GROUP, ("komputeragents/status", "komputerconnectors/status"), ("patch",)),
        Right(GROUP, ("komputeragents/finalizers",), ("update",)),
        Right(GROUP, ("komputerconnectors", "komputeragenttemplates"), ("list", "watch")),
        Right("", ("pods",), (*READ, "create", "delete")),
        Right("", ("persistentvolumeclaims", "configmaps"), (*READ, "create", "patch", "delete")),
        Right("", ("serviceaccounts",), ("create",)),
        Right("", ("events",), ("create",)),
        Right("networking.k8s.io", ("networkpolicies",), ("create", "patch")),
    ),
}
OF_THE_CLUSTER: Final[dict[str, tuple[Right, ...]]] = {
    "api": (
        Right(GROUP, ("komputerconfigs",), ("list", "watch")),
        Right(GROUP, ("komputeragentclustertemplates",), ("list",)),
        Right("", ("namespaces",), ("list",)),
        Right("authentication.k8s.io", ("tokenreviews",), ("create",)),
        Right("authorization.k8s.io", ("subjectaccessreviews",), ("create",)),
    ),
    "gateway": (
        Right(GROUP, ("komputerconfigs",), ("list", "watch")),
        Right("authentication.k8s.io", ("tokenreviews",), ("create",)),
    ),
    "operator": (Right(GROUP, ("komputerconfigs", "komputeragentclustertemplates"), ("list", "watch")),),
}
