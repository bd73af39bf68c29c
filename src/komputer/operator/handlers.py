"""kopf: watches every kind that we look at, and tells the store. It decides nothing, and writes nothing on any object.

A watch that had to begin anew (the server no longer knows where it was) says nothing of what was deleted meanwhile:
`on_relist` is called then, and a sweep compares the store with whole lists.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import kopf

from komputer.kube.kinds import Kind
from komputer.operator.store import CHILDREN, KINDS, Store
from komputer.resources import names

RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0)
"""kopf's patience with an API server that is away before it lists anew. Short steps first: a local one that died is
back within a second."""


async def watch(store: Store, namespaces: Sequence[str] | None, on_relist: Callable[[], None]) -> None:
    """Run kopf, in all namespaces (None) or in some, until SIGTERM or SIGINT, which it takes for itself, until
    cancelled, or until it fails for good. At its end it cancels what was started in this event loop after it: it wants
    a process of its own."""
    # No stop_flag: with one, kopf leaves a task behind at a signal and waits five seconds for it.
    await kopf.operator(
        registry=_registry(store, on_relist),
        settings=_settings(),
        standalone=True,
        clusterwide=namespaces is None,
        namespaces=namespaces or (),
    )


def _settings() -> kopf.OperatorSettings:
    """No peering, no scanning for kinds to come, no Kubernetes Events."""
    chosen = kopf.OperatorSettings()
    chosen.scanning.disabled = True
    chosen.peering.standalone = True
    chosen.posting.enabled = False
    chosen.process.ultimate_exiting_timeout = None
    chosen.networking.error_backoffs = RETRY_S
    for kind in CHILDREN:
        chosen.watching.label_selectors[kind.group, kind.version, kind.plural] = names.AGENT_LABEL
    return chosen


def _registry(store: Store, on_relist: Callable[[], None]) -> kopf.OperatorRegistry:
    found = kopf.OperatorRegistry()
    kopf.on.login(id="login", registry=found)(_login)
    for kind in KINDS:
        _tell(found, kind, store, on_relist)
    return found


def _tell(registry: kopf.OperatorRegistry, kind: Kind, store: Store, on_relist: Callable[[], None]) -> None:
    first_list = True

    @kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)
    async def tell(*, event: Any, **_: Any) -> None:
        nonlocal first_list
        if event["type"] == "DELETED":
            store.drop(kind, event["object"])
            return
        store.put(kind, event["object"])
        if event["type"] is not None:
            first_list = False
        elif not first_list:
            first_list = True
            on_relist()


def _login(**given: Any) -> kopf.ConnectionInfo | None:
    """The kubeconfig where one is named, as for the rest of the platform; else the pod's own account."""
    if not os.environ.get("KUBECONFIG"):
        account = kopf.login_with_service_account(**given)
        if account is not None:
            return account
    return kopf.login_with_kubeconfig(**given)
