"""Encodes the answers of `GET /agents` once per change, not once per request."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from komputer.domain.base import Manifest
from komputer.domain.ref import ObjectRef
from komputer.kube import Cache
from komputer.services.agents import listing
from komputer.services.agents.listing import AgentRow, Facets, Query
from komputer.services.agents.overlay import Overlay
from komputer.services.agents.view import agent_view


@dataclass
class _Rows:
    """The rows of one namespace or of all, and their facets, computed when a request first needs them."""

    rows: Sequence[AgentRow]
    facets: Facets | None = None


class AgentLists:
    """Encodes lists of the agents that a cache and an overlay hold now."""

    def __init__(self, cache: Cache, overlay: Overlay) -> None:
        self._cache = cache
        self._overlay = overlay
        self._encoded: dict[ObjectRef, tuple[str, object, AgentRow]] = {}
        """The row of each agent, with the resource version and the live state from which it was encoded."""
        self._version = (-1, -1)
        """The versions of the cache and the overlay from which `_rows` and `_answers` were computed."""
        self._rows: dict[str | None, _Rows] = {}
        self._answers: dict[tuple[str | None, frozenset[str] | None], bytes] = {}
        """Complete answers, by the requested namespace and the namespaces that the caller may list."""

    def answer(self, query: Query, visible: frozenset[str] | None = None) -> bytes:
        """Return the body of the response. `visible` are the namespaces that it may show or name; None: all.

        The caller must have checked that `query.namespace`, if any, may be listed.
        """
        version = (self._cache.version, self._overlay.version)
        if self._version != version:
            self._version, self._answers, self._rows = version, {}, {}
        if visible is not None and query.namespace is None:
            rows = [row for row in self._rows_of(None) if row.namespace in visible]
            return encode_page(listing.matching(rows, query), query, listing.facets(rows, rows))
        if not query.is_unfiltered:
            rows = listing.matching(self._rows_of(query.namespace), query)
            return encode_page(rows, query, self._facets(query.namespace, visible))
        known = self._answers.get((query.namespace, visible))
        if known is None:
            known = encode_page(self._rows_of(query.namespace), query, self._facets(query.namespace, visible))
            self._answers[query.namespace, visible] = known
        return known

    def forget(self, ref: ObjectRef) -> None:
        """Drop the encoded row of an agent that was deleted."""
        self._encoded.pop(ref, None)

    def _rows_of(self, namespace: str | None) -> Sequence[AgentRow]:
        """Return the rows of a namespace, or of all, the newest first."""
        known = self._rows.get(namespace)
        if known is None:
            agents = (m for m in self._cache.items(namespace) if not m["metadata"].get("deletionTimestamp"))
            known = self._rows[namespace] = _Rows(listing.newest_first(self._row(m) for m in agents))
        return known.rows

    def _facets(self, namespace: str | None, visible: frozenset[str] | None) -> Facets:
        every = self._rows_of(None)
        known = self._rows[namespace]
        if known.facets is None:
            known.facets = listing.facets(known.rows, every)
        labels, namespaces = known.facets
        return Facets(labels, [name for name in namespaces if visible is None or name in visible])

    def _row(self, manifest: Manifest) -> AgentRow:
        metadata = manifest["metadata"]
        ref = ObjectRef.of(manifest)
        live = self._overlay.get(ref)
        known = self._encoded.get(ref)
        if known and known[0] == metadata["resourceVersion"] and known[1] is live:
            return known[2]
        view = agent_view(manifest, live)
        json = view.model_dump_json(by_alias=True, exclude_none=True).encode()
        row = listing.row(view, metadata.get("labels") or {}, json)
        self._encoded[ref] = (metadata["resourceVersion"], live, row)
        return row


def encode_page(found: Sequence[AgentRow], query: Query, facets: Facets) -> bytes:
    """Return an `AgentList` with the page of `found` that `query` selects. `nextOffset` is present if more follow."""
    end = len(found) if query.limit is None else query.offset + query.limit
    page = found[query.offset : end]
    following = b',"nextOffset":%d' % end if end < len(found) else b""
    return b'{"agents":[%b],"total":%d%b,"facets":%b}' % (
        b",".join(row.json for row in page),
        len(found),
        following,
        orjson.dumps(facets._asdict()),
    )
