"""Event streams: `/api/v1/agents/{name}/ws`, `/api/v1/agents/{name}/events/stream`, `/api/v1/events/stream`."""

from collections.abc import Iterable, Set
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response, WebSocket
from starlette.requests import HTTPConnection

from komputer.api.auth import checked_namespace, while_allowed
from komputer.api.routes.shared import ERRORS, NO_AGENT, Answers, Namespace
from komputer.api.state import rights_of, state_of
from komputer.api.stream import EventStream, EventStreams, Follower, Guard, websocket
from komputer.api.typos import QueryParameters, check_parameters, event_types
from komputer.domain.base import Manifest
from komputer.domain.errors import Forbidden, Invalid, NotFound
from komputer.domain.event_ids import parse_position
from komputer.domain.ref import ObjectRef
from komputer.events.follow.cursors import Cursor, parse_cursor
from komputer.events.follow.sources import GAP, Delivery
from komputer.kube import AGENTS
from komputer.services.access import AccessRequest, Rights

router = APIRouter(prefix="/api/v1", tags=["streams"])
sockets = APIRouter(prefix="/api/v1", tags=["streams"])
"""WebSockets check their rights themselves, because they report errors as close codes."""

STREAM: Final[Answers] = {
    200: {"description": "Server-Sent Events without end.", "content": {"text/event-stream": {}}},
    **ERRORS,
}
NAMESPACES_NAMED: Final = 5
"""Maximum number of namespaces that an error names."""
ANY_EVENTS: Final = AccessRequest("watch", AGENTS, subresource="events")
After = Annotated[str | None, Query(description="A cursor: begin after it instead of now.")]
Types = Annotated[str | None, Query(description="Only these, separated by commas.")]
LastEventID = Annotated[str | None, Header(description="Like `after`; browsers send it when they reconnect.")]
WEBSOCKET_PARAMETERS: Final = QueryParameters(frozenset({"namespace", "after", "group"}))


@sockets.websocket("/agents/{name}/ws")
async def watch_agent(socket: WebSocket, name: str) -> None:
    """Send every event of an agent as one text frame."""
    query, state = socket.query_params, state_of(socket)

    async def follow() -> tuple[Follower, Guard]:
        check_parameters((name for name, _ in query.multi_items()), WEBSOCKET_PARAMETERS)
        manifest = await find_agent(socket, name, query.get("namespace"))
        right = watch_right(manifest)
        await rights_of(socket).require(right)
        # The agent may have been deleted since. From the cache on, its deletion ends the stream.
        cached = state.agents.agents.cached(manifest["metadata"]["namespace"], name)
        return follower(state.streams, cached, query.get("after"), query.get("group")), guard(socket, right)

    await websocket(state.streams, follow, socket.scope, socket.receive, socket.send)


@router.get(
    "/agents/{name}/events/stream",
    operation_id="follow_agent",
    response_class=Response,
    responses={**STREAM, **NO_AGENT},
)
async def follow_agent(
    request: Request,
    name: str,
    namespace: Namespace,
    after: After = None,
    types: Types = None,
    last_event_id: LastEventID = None,
) -> Response:
    """Stream an agent's events as they happen. Without a cursor the stream begins now."""
    state = state_of(request)
    agents, streams = state.agents.agents, state.streams
    manifest = await agents.one(namespace, name)
    return EventStream(
        streams,
        lambda: follower(streams, agents.cached(namespace, name), last_event_id or after),
        EventFilter(event_types(types)),
        guard(request, watch_right(manifest)),
    )


@router.get("/events/stream", operation_id="follow_all", response_class=Response, responses=STREAM)
async def follow_all(
    request: Request,
    namespace: Annotated[str | None, Query(description="Only agents of this namespace.")] = None,
    after: After = None,
    types: Types = None,
    last_event_id: LastEventID = None,
) -> Response:
    """Stream the events of all agents, in order for each agent. Without a cursor the stream begins now."""
    where, state = checked_namespace(namespace), state_of(request)
    start = start_cursor(last_event_id or after)
    rights = rights_of(request) if state.access else None
    right = ANY_EVENTS._replace(namespace=where) if where else None
    return EventStream(
        state.streams,
        lambda: state.streams.tail.follow_all(start),
        EventFilter(event_types(types), where, rights),
        guard(request, right),
        has_cursor=start is not None,
    )


class EventFilter:
    """Selects the events that a reader asked for and may see. Gaps are always included.

    Cursors leave out the positions of agents in other namespaces: events that are read again because of that are
    filtered again.
    """

    def __init__(
        self, types: frozenset[str] | None, namespace: str | None = None, rights: Rights | None = None
    ) -> None:
        self._types, self._namespace, self._rights = types, namespace, rights

    async def of(self, read: list[Delivery]) -> list[Delivery]:
        selected = [each for each in read if self._types is None or each.type in self._types or each.type == GAP]
        if self._namespace is None and self._rights is None:
            return selected
        visible = await self._visible(ref.namespace for each in selected for ref in (each.ref, *each.cursor.ahead))
        return [_restricted(each, visible) for each in selected if each.ref.namespace in visible]

    async def cursor_text(self, cursor: Cursor) -> str:
        if self._namespace is not None or self._rights is not None:
            cursor = cursor.only(await self._visible(namespace for namespace, _ in cursor.ahead))
        return cursor.to_text()

    async def _visible(self, namespaces: Iterable[str]) -> set[str]:
        candidates = {each for each in namespaces if self._namespace is None or each == self._namespace}
        if self._rights is None:
            return candidates
        return {each for each in candidates if await self._rights.allow_in(ANY_EVENTS, each)}


def _restricted(delivery: Delivery, namespaces: Set[str]) -> Delivery:
    """Return the delivery with a cursor that names no other namespaces."""
    cursor = delivery.cursor.only(namespaces)
    return delivery if cursor is delivery.cursor else delivery._replace(cursor=cursor, cursor_text=cursor.to_text())


def watch_right(manifest: Manifest) -> AccessRequest:
    """Return the right to follow the events of an agent."""
    metadata = manifest["metadata"]
    return ANY_EVENTS._replace(namespace=metadata["namespace"], name=metadata["name"])


def guard(connection: HTTPConnection, right: AccessRequest | None) -> Guard:
    """Return a guard that ends a stream when its reader may no longer follow."""
    return lambda: while_allowed(connection, right)


def start_cursor(text: str | None) -> Cursor | None:
    """Return the position that a stream of all agents begins at: one of its own cursors, an event id or a time. Raises
    `Invalid`."""
    if text is None:
        return None
    return parse_cursor(text) if "~" in text else Cursor(parse_position(text).low)


def follower(streams: EventStreams, manifest: Manifest, after: str | None, group: str | None = None) -> Follower:
    """Return a follower of one agent. Raises `Invalid` for a malformed cursor or group name."""
    ref, uid = ObjectRef.of(manifest), manifest["metadata"]["uid"]
    start = parse_position(after) if after is not None else None
    cursor = Cursor(start.low) if start else None
    if group:
        return streams.tail.join(ref, uid, group, cursor)
    return streams.tail.follow(ref, uid, cursor, is_id=start is None or start.is_id)


async def find_agent(socket: WebSocket, name: str, namespace: str | None) -> Manifest:
    """Return the agent of that name in `namespace`. Without one: in the default namespace, else the only agent of that
    name that the caller may see.

    Raises `NotFound`, `Invalid` if several agents have the name, and `Forbidden`, whether or not the agent exists.
    """
    state, rights = state_of(socket), rights_of(socket)
    agents, where = state.agents.agents, checked_namespace(namespace)
    first = where or state.settings.default_namespace
    try:
        await rights.require(ANY_EVENTS._replace(namespace=first, name=name))
        return await agents.one(first, name)
    except (NotFound, Forbidden):
        if where:
            raise
        others = [
            each for each in agents.named(name) if await rights.allow_in(ANY_EVENTS, each["metadata"]["namespace"])
        ]
        if not others:
            raise
    if len(others) > 1:
        namespaces = ", ".join(sorted(each["metadata"]["namespace"] for each in others)[:NAMESPACES_NAMED])
        raise Invalid(f"several namespaces have an agent {name!r}; name one: {namespaces}", field="namespace")
    return others[0]
