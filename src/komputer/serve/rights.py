"""The rights that each part always needs in the Kubernetes API.

The chart grants them (`tests/chart` compares the two), `komputer doctor` checks that they are granted, and
`docs/security.md` has the reason for each verb. Two rights that depend on options are not here: to create namespaces
(`--create-namespaces`), and to use the operator's Lease (`--lease`).
"""

from typing import Final, NamedTuple

GROUP: Final = "komputer.komputer.ai"


class RbacRule(NamedTuple):
    """The permitted verbs on resources of one API group. A resource may be a subresource: `komputeragents/status`."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]


READ: Final = ("get", "list", "watch")
IN_NAMESPACES: Final[dict[str, tuple[RbacRule, ...]]] = {
    "api": (
        RbacRule(GROUP, ("komputeragents", "komputerconnectors"), (*READ, "create", "patch", "delete")),
        RbacRule(GROUP, ("komputeragenttemplates",), ("list",)),
        RbacRule("", ("secrets",), ("get", "list", "create", "patch", "delete")),
    ),
    "gateway": (
        RbacRule(GROUP, ("komputeragents",), (*READ, "create", "patch", "delete")),
        RbacRule(GROUP, ("komputerconnectors",), READ),
        RbacRule("", ("pods",), READ),
        RbacRule("", ("secrets",), ("get",)),
    ),
    "operator": (
        RbacRule(GROUP, ("komputeragents",), READ),
        RbacRule(
            GROUP,
            ("komputeragents/status", "komputerconnectors/status", "komputeragenttemplates/status"),
            ("patch",),
        ),
        RbacRule(GROUP, ("komputeragents/finalizers",), ("update",)),
        RbacRule(GROUP, ("komputerconnectors", "komputeragenttemplates"), ("list", "watch")),
        RbacRule("", ("pods",), (*READ, "create", "delete")),
        RbacRule("", ("persistentvolumeclaims", "configmaps"), (*READ, "create", "patch", "delete")),
        RbacRule("", ("serviceaccounts",), ("create",)),
        RbacRule("", ("events",), ("create",)),
        RbacRule("networking.k8s.io", ("networkpolicies",), ("create", "patch")),
    ),
}
OF_THE_CLUSTER: Final[dict[str, tuple[RbacRule, ...]]] = {
    "api": (
        RbacRule(GROUP, ("komputerconfigs",), ("list", "watch")),
        RbacRule(GROUP, ("komputeragentclustertemplates",), ("list",)),
        RbacRule("", ("namespaces",), ("list",)),
        RbacRule("authentication.k8s.io", ("tokenreviews",), ("create",)),
        RbacRule("authorization.k8s.io", ("subjectaccessreviews",), ("create",)),
    ),
    "gateway": (
        RbacRule(GROUP, ("komputerconfigs",), ("list", "watch")),
        RbacRule("authentication.k8s.io", ("tokenreviews",), ("create",)),
    ),
    "operator": (
        RbacRule(GROUP, ("komputerconfigs", "komputeragentclustertemplates"), ("list", "watch")),
        RbacRule(GROUP, ("komputerconfigs/status", "komputeragentclustertemplates/status"), ("patch",)),
    ),
}
