"""Lists of agents, made once per change and kept as bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

from komputer.domain.base import Manifest
from komputer.domain.ref import ObjectRef
from komputer.kube import Cache
from komputer.services.agents import listing
from komputer.services.agents.overlay import Overlay
from komputer.services.agents.view import agent_body


@dataclass
class Ordered:
    """The agents of a namespace, or all; and what they may be filtered by, once somebody asked."""

    rows: Sequence[listing.AgentRow]
    facets: listing.Facets | None = None


class Lists:
    """Of what the cache and the overlay hold now."""

    def __init__(self, cache: Cache, overlay: Overlay) -> None:
        self._cache = cache
        self._overlay = overlay
        self._made: dict[ObjectRef, tuple[str, object, listing.AgentRow]] = {}
        self._version = (-1, -1)
        """Of the cache and the overlay; what follows was made of."""
        self._rows: dict[str | None, Ordered] = {}
        self._lists: dict[tuple[str | None, frozenset[str] | None], bytes] = {}
        """By the namespace that was asked for, and those that the caller sees."""

    def answer(self, asked: listing.Query, seen: frozenset[str] | None = None) -> bytes:
        """The whole answer; without filters it is made once per change. `seen`: see `Agents.list`."""
        version = (self._cache.version, self._overlay.version)
        if self._version != version:
            self._version, self._lists, self._rows = version, {}, {}
        if seen is not None and asked.namespace is None:
            visible = [row for row in self._rows_of(None) if row.namespace in seen]
            return listing.answer(listing.matching(visible, asked), asked, listing.facets(visible, visible))
        if not asked.is_plain:
            rows = self._rows_of(asked.namespace)
            return listing.answer(listing.matching(rows, asked), asked, self._facets(asked.namespace, seen))
        known = self._lists.get((asked.namespace, seen))
        if known is None:
            known = listing.answer(self._rows_of(asked.namespace), asked, self._facets(asked.namespace, seen))
            self._lists[asked.namespace, seen] = known
        return known

    def _rows_of(self, namespace: str | None) -> Sequence[listing.AgentRow]:
        """The newest first."""
        known = self._rows.get(namespace)
        if known is None:
            here = (m for m in self._cache.items(namespace) if not m["metadata"].get("deletionTimestamp"))
            known = Ordered(listing.newest_first(self._row(m) for m in here))
            self._rows[namespace] = known
        return known.rows

    def _facets(self, namespace: str | None, seen: frozenset[str] | None) -> listing.Facets:
        every = self._rows_of(None)
        ordered = self._rows[namespace]
        if ordered.facets is None:
            ordered.facets = listing.facets(ordered.rows, every)
        labels, namespaces = ordered.facets
        return listing.Facets(labels, [name for name in namespaces if seen is None or name in seen])

    def _row(self, manifest: Manifest) -> listing.AgentRow:
        meta = manifest["metadata"]
        key = ObjectRef.of(manifest)
        live = self._overlay.get(key)
        known = self._made.get(key)
        if known and known[0] == meta["resourceVersion"] and known[1] is live:
            return known[2]
        made = listing.row(agent_body(manifest, live), meta.get("labels") or {})
        self._made[key] = (meta["resourceVersion"], live, made)
        return made

    def forget(self, key: ObjectRef) -> None:
        """The agent is gone."""
        self._made.pop(key, None)
