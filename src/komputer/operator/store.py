"""The objects that are watched, as seen last. `watches.py` fills it; what we write ourselves goes in at once."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from komputer.kube.kinds import (
    AGENTS,
    CLUSTER_TEMPLATES,
    CONFIG_MAPS,
    CONFIGS,
    CONNECTORS,
    PODS,
    PVCS,
    TEMPLATES,
    Kind,
)
from komputer.resources import names
from komputer.resources.base import Manifest
from komputer.resources.connector import attached

KINDS: Final = (AGENTS, TEMPLATES, CLUSTER_TEMPLATES, CONFIGS, CONNECTORS, PODS, PVCS, CONFIG_MAPS)
CHILDREN: Final = (PODS, PVCS, CONFIG_MAPS)
"""Watched by label: of all pods of a cluster we want to see ours only."""
_BURIED: Final = 10_000

Key = tuple[str | None, str]


class AgentKey(NamedTuple):
    """Whose turn it is."""

    namespace: str
    name: str


class ConnectorKey(NamedTuple):
    namespace: str
    name: str


def _nobody(_: ConnectorKey) -> None:
    return None


class Store:
    """Objects by kind, namespace and name. `wake` is called with each agent that a change may concern, and
    `wake_connector` with each connector."""

    def __init__(
        self, wake: Callable[[AgentKey], None], wake_connector: Callable[[ConnectorKey], None] = _nobody
    ) -> None:
        self._wake = wake
        self._wake_connector = wake_connector
        self._objects: dict[Kind, dict[Key, Manifest]] = {kind: {} for kind in KINDS}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._gone: dict[AgentKey, set[str]] = {}

    def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        return self._objects[kind].get((namespace, name))

    def agents(self) -> Iterator[AgentKey]:
        for namespace, name in list(self._objects[AGENTS]):
            yield AgentKey(namespace or "", name)

    def gone(self, key: AgentKey) -> frozenset[str]:
        """Uids of agents of this name that are no more, and whose log was not buried yet."""
        return frozenset(self._gone.get(key, ()))

    def forget_gone(self, key: AgentKey, uid: str) -> None:
        uids = self._gone.get(key, set())
        uids.discard(uid)
        if not uids:
            self._gone.pop(key, None)

    def put(self, kind: Kind, manifest: Manifest, *, is_own_write: bool = False) -> None:
        """Take in an object, unless a newer state of it is known. Wakes whom it concerns, but for what we wrote."""
        metadata = manifest["metadata"]
        key, uid = _key(manifest), metadata.get("uid", "")
        before = self._objects[kind].get(key)
        if uid in self._deleted or (before and _version(before) >= _version(manifest)):
            return
        self._objects[kind][key] = manifest
        self._tell_connectors(kind, before, manifest)
        if before and before["metadata"].get("uid") != uid:
            self._bury(kind, key, before)
        if not is_own_write:
            self._tell(kind, manifest)

    def drop(self, kind: Kind, manifest: Manifest) -> None:
        """This very object is no more; one of its name that came after it stays."""
        key, uid = _key(manifest), manifest["metadata"].get("uid", "")
        found = self._objects[kind].get(key)
        if found and found["metadata"].get("uid", "") == uid:
            del self._objects[kind][key]
            self._tell_connectors(kind, found, None)
        self._bury(kind, key, manifest)
        self._tell(kind, manifest)

    def _bury(self, kind: Kind, key: Key, manifest: Manifest) -> None:
        uid = manifest["metadata"].get("uid", "")
        self._deleted[uid] = None
        if len(self._deleted) > _BURIED:
            self._deleted.popitem(last=False)
        if kind is AGENTS:
            self._gone.setdefault(AgentKey(key[0] or "", key[1]), set()).add(uid)

    def agents_of(self, connector: ConnectorKey) -> list[str]:
        """The agents that name it, in order."""
        return attached(self._objects[AGENTS].values()).get(connector, [])

    def _tell_connectors(self, kind: Kind, before: Manifest | None, after: Manifest | None) -> None:
        """A connector that changed; of an agent those that it names now or did before, unless that is the same."""
        if kind is CONNECTORS and after is not None and not (before and _is_status_only(before, after)):
            self._wake_connector(ConnectorKey(*_place(after)))
        if kind is AGENTS:
            old, new = (frozenset(attached([each])) if each else frozenset() for each in (before, after))
            for place in old ^ new:
                self._wake_connector(ConnectorKey(*place))

    def _tell(self, kind: Kind, manifest: Manifest) -> None:
        for key in self._concerned(kind, manifest):
            self._wake(key)

    def _concerned(self, kind: Kind, manifest: Manifest) -> Iterable[AgentKey]:
        metadata = manifest["metadata"]
        namespace, name = metadata.get("namespace") or "", metadata["name"]
        if kind is AGENTS:
            return [AgentKey(namespace, name)]
        if kind in CHILDREN:
            owner = (metadata.get("labels") or {}).get(names.AGENT_LABEL)
            return [AgentKey(namespace, owner)] if owner else []
        if kind is CONFIGS:
            return self.agents()
        if kind is CONNECTORS:
            return [
                AgentKey(where or "", who)
                for (where, who), agent in list(self._objects[AGENTS].items())
                if where == namespace and name in (agent.get("spec", {}).get("connectors") or ())
            ]
        return [
            AgentKey(where or "", who)
            for (where, who), agent in list(self._objects[AGENTS].items())
            if agent.get("spec", {}).get("templateRef", names.DEFAULT_TEMPLATE) == name
            and (kind is CLUSTER_TEMPLATES or where == namespace)
        ]


def _place(manifest: Manifest) -> tuple[str, str]:
    return manifest["metadata"].get("namespace") or "", manifest["metadata"]["name"]


def _is_status_only(before: Manifest, after: Manifest) -> bool:
    """Whether no more than the status changed, which is ours."""
    return bool(
        before["metadata"].get("uid") == after["metadata"].get("uid") and before.get("spec") == after.get("spec")
    )


def _key(manifest: Manifest) -> Key:
    return manifest["metadata"].get("namespace"), manifest["metadata"]["name"]


def _version(manifest: Manifest) -> int:
    """Resource versions grow, at every API server there is, though only newer releases promise it."""
    version = manifest["metadata"].get("resourceVersion", "")
    return int(version) if version.isdecimal() else 0
