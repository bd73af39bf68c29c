"""Lists namespaces, and creates a missing one together with the first object in it."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from komputer.domain.errors import Conflict, Invalid
from komputer.kube import AGENTS, NAMESPACE_NOT_FOUND, NAMESPACES, Cluster
from komputer.services.access import AccessRequest, Rights

T = TypeVar("T")


class NamespaceService:
    """The namespaces of the cluster. Missing ones are created on demand if `creates_missing`."""

    def __init__(self, cluster: Cluster, *, creates_missing: bool) -> None:
        self._cluster = cluster
        self._creates_missing = creates_missing

    async def names(self, rights: Rights) -> list[str]:
        """Return the namespaces that are not being deleted. A caller who may not list namespaces gets those whose
        agents it may list."""
        found = (await self._cluster.list(NAMESPACES)).items
        names = sorted(m["metadata"]["name"] for m in found if not m["metadata"].get("deletionTimestamp"))
        if await rights.allow(AccessRequest("list", NAMESPACES)):
            return names
        visible = await rights.visible(AccessRequest("list", AGENTS), lambda: names)
        return [name for name in names if visible is None or name in visible]

    async def ensure_for(self, namespace: str, rights: Rights, act: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `act`, which creates an object in `namespace`.

        If the namespace is missing, it is created and `act` is called again. Raises `Forbidden` if the caller may not
        create namespaces, and `Invalid` if missing namespaces are not created.
        """
        try:
            return await act()
        except Invalid as missing:
            if missing.code != NAMESPACE_NOT_FOUND or not self._creates_missing:
                raise
        await rights.require(AccessRequest("create", NAMESPACES))
        with contextlib.suppress(Conflict):
            await self._cluster.create(NAMESPACES, {"metadata": {"name": namespace}})
        return await act()
