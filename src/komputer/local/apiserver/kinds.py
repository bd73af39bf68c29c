"""The kinds of resources: the built-in ones, and a registry to which CustomResourceDefinitions add theirs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from komputer.local.apiserver.errors import no_such_path

EVERY_VERB = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of `kubectl get`. `type` is as in a CRD; a `priority` above 0 appears with `-o wide` only."""

    name: str
    type: str
    path: str
    priority: int = 0
    description: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """One resource of the API. `schema` is set for custom resources only; `builtin_schema` has the schemas of the
    built-in kinds."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    singular: str = ""
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = EVERY_VERB
    has_status: bool = False
    subresources: tuple[tuple[str, str, str, str], ...] = ()
    """Subresources besides status: (name, group, version, kind) of the object in request and response. An empty group
    and version mean those of the parent."""
    custom: bool = False
    schema: dict[str, Any] = field(default_factory=dict)
    columns: tuple[TableColumn, ...] = ()
    list_kind: str = ""
    is_terminating: bool = False

    @property
    def resource(self) -> str:
        """The name `plural.group`, which is used in messages and in the store. The core group has no suffix."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_name(self) -> str:
        return self.list_kind or f"{self.kind}List"


POD = ResourceKind(
    "",
    "v1",
    "Pod",
    "pods",
    short_names=("po",),
    categories=("all",),
    has_status=True,
    subresources=(("log", "", "", "Pod"),),
)
NAMESPACE = ResourceKind("", "v1", "Namespace", "namespaces", namespaced=False, short_names=("ns",), has_status=True)
SERVICE_ACCOUNT = ResourceKind(
    "",
    "v1",
    "ServiceAccount",
    "serviceaccounts",
    short_names=("sa",),
    subresources=(("token", "authentication.k8s.io", "v1", "TokenRequest"),),
)
CRD = ResourceKind(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    has_status=True,
)
EVENT = ResourceKind("", "v1", "Event", "events", short_names=("ev",))
NEW_EVENT = ResourceKind("events.k8s.io", "v1", "Event", "events", short_names=("ev",))
BUILT_IN = (
    NAMESPACE,
    POD,
    ResourceKind("", "v1", "ConfigMap", "configmaps", short_names=("cm",)),
    ResourceKind("", "v1", "Secret", "secrets"),
    ResourceKind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", short_names=("pvc",), has_status=True),
    SERVICE_ACCOUNT,
    EVENT,
    NEW_EVENT,
    ResourceKind("coordination.k8s.io", "v1", "Lease", "leases"),
    CRD,
    ResourceKind("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", namespaced=False, verbs=("create",)),
    ResourceKind(
        "authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False, verbs=("create",)
    ),
    ResourceKind(
        "authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False, verbs=("create",)
    ),
    ResourceKind(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        namespaced=False,
        verbs=("create",),
    ),
    ResourceKind(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        namespaced=False,
        verbs=("create",),
    ),
    ResourceKind(
        "authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=("create",)
    ),
)


class Registry:
    """The kinds that are served now, by (group, version, plural). `generation` increases with every change."""

    def __init__(self, kinds: Iterable[ResourceKind] = BUILT_IN) -> None:
        self._kinds = {(kind.group, kind.version, kind.plural): kind for kind in kinds}
        self.generation = 0

    def __iter__(self) -> Iterator[ResourceKind]:
        return iter(self._kinds.values())

    def find(self, group: str, version: str, plural: str) -> ResourceKind:
        """Return the kind with this path. Raises StatusError 404."""
        kind = self._kinds.get((group, version, plural))
        if kind is None:
            raise no_such_path()
        return kind

    def by_resource(self, resource: str) -> ResourceKind | None:
        """Return the kind with the name `plural.group`, or None."""
        return next((kind for kind in self if kind.resource == resource), None)

    def by_object(self, api_version: str, kind_name: str) -> ResourceKind | None:
        """Return the kind that an ownerReference names, or None."""
        return next((kind for kind in self if kind.kind == kind_name and kind.api_version == api_version), None)

    def add(self, kind: ResourceKind) -> None:
        self._kinds[kind.group, kind.version, kind.plural] = kind
        self.generation += 1

    def drop(self, resource: str) -> None:
        self._kinds = {address: kind for address, kind in self._kinds.items() if kind.resource != resource}
        self.generation += 1
