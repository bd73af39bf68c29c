"""Following events: `/api/v1/agents/{name}/ws`, `/api/v1/agents/{name}/events/stream`, `/api/v1/events/stream`."""

from collections.abc import Iterable, Set
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response, WebSocket
from starlette.requests import HTTPConnection

from komputer.api.access import AccessRequest
from komputer.api.auth import Sight, access_of, checked_namespace, require, while_allowed
from komputer.api.routes.shared import ERRORS, NO_AGENT, Answers, Namespace, agents
from komputer.api.stream import EventStream, EventStreams, Follower, Guard, websocket
from komputer.api.typos import refuse_unknown_parameters, wanted_types
from komputer.domain.base import Manifest
from komputer.domain.errors import Forbidden, Invalid, NotFound
from komputer.domain.event_ids import parse_position
from komputer.domain.ref import ObjectRef
from komputer.events.follow.cursors import Cursor, parse_cursor
from komputer.events.follow.sources import GAP, Delivery
from komputer.kube import AGENTS
from komputer.services.agents.agents import Agents

router = APIRouter(prefix="/api/v1", tags=["streams"])
sockets = APIRouter(prefix="/api/v1", tags=["streams"])
"""WebSockets find out themselves whether they may: their refusals are close codes."""

STREAM: Answers = {
    200: {"description": "Server-Sent Events without end.", "content": {"text/event-stream": {}}},
    **ERRORS,
}
After = Annotated[str | None, Query(description="A cursor: begin behind it, not now.")]
Types = Annotated[str | None, Query(description="Only these, separated by commas.")]
WEBSOCKET_PARAMETERS: Final = frozenset({"namespace", "after", "group"})
LastEventID = Annotated[str | None, Header(description="As `after`; what a browser sends when it comes back.")]


def streams_of(connection: Request | WebSocket) -> EventStreams:
    found: EventStreams = connection.app.state.streams
    return found


@sockets.websocket("/agents/{name}/ws")
async def watch_agent(socket: WebSocket, name: str) -> None:
    """Every event of an agent as one text frame."""
    given, streams, default = socket.query_params, streams_of(socket), socket.app.state.settings.default_namespace

    async def follow() -> tuple[Follower, Guard]:
        refuse_unknown_parameters(given.keys(), WEBSOCKET_PARAMETERS)
        manifest = await found(socket, name, given.get("namespace"), default)
        right = to_watch(manifest)
        await require(socket, right)
        # It may have been deleted meanwhile, before there was anybody to be told.
        there = socket.app.state.agents.known(manifest["metadata"]["namespace"], name)
        return follower(streams, there, given.get("after"), given.get("group")), guard(socket, right)

    await websocket(streams, follow, socket.scope, socket.receive, socket.send)


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
    """An agent's events as they happen. Without a cursor: from now on."""
    manifest = await agents(request).one(namespace, name)
    streams = streams_of(request)
    chosen = last_event_id or after
    return EventStream(
        streams,
        lambda: follower(streams, agents(request).known(namespace, name), chosen),
        StreamRequest(wanted_types(types)),
        guard(request, to_watch(manifest)),
    )


@router.get("/events/stream", operation_id="follow_all", response_class=Response, responses=STREAM)
async def follow_all(
    request: Request,
    namespace: Annotated[str | None, Query(description="Only the agents of this one.")] = None,
    after: After = None,
    types: Types = None,
    last_event_id: LastEventID = None,
) -> Response:
    """The events of all agents, each agent's in order. Without a cursor: from now on."""
    where, streams = checked_namespace(namespace), streams_of(request)
    cursor = cursor_from(last_event_id or after)
    sight = Sight(request, "watch", AGENTS, "events") if access_of(request) else None
    right = AccessRequest("watch", AGENTS, where, None, "events") if where else None
    return EventStream(
        streams,
        lambda: streams.tail.follow_all(cursor),
        StreamRequest(wanted_types(types), where, sight),
        guard(request, right),
        has_cursor=cursor is not None,
    )


class StreamRequest:
    """Which events a reader asked for, and may see. A gap is always told.

    A cursor leaves out where agents of other namespaces are: what is read again of them is filtered again."""

    def __init__(self, types: frozenset[str] | None, namespace: str | None = None, sight: Sight | None = None) -> None:
        self._types, self._namespace, self._sight = types, namespace, sight

    async def of(self, taken: list[Delivery]) -> list[Delivery]:
        told = [each for each in taken if self._types is None or each.type in self._types or each.type == GAP]
        if self._namespace is None and self._sight is None:
            return told
        seen = await self._seen(ref.namespace for each in told for ref in (each.ref, *each.cursor.ahead))
        return [_named(each, seen) for each in told if each.ref.namespace in seen]

    async def cursor_text(self, cursor: Cursor) -> str:
        if self._namespace is not None or self._sight is not None:
            cursor = cursor.only(await self._seen(namespace for namespace, _ in cursor.ahead))
        return cursor.to_text()

    async def _seen(self, namespaces: Iterable[str]) -> set[str]:
        asked = {each for each in namespaces if self._namespace is None or each == self._namespace}
        return {each for each in asked if self._sight is None or await self._sight.includes(each)}


def _named(told: Delivery, seen: Set[str]) -> Delivery:
    """With a cursor that names none but those."""
    cursor = told.cursor.only(seen)
    return told if cursor is told.cursor else told._replace(cursor=cursor, cursor_text=cursor.to_text())


def to_watch(manifest: Manifest) -> AccessRequest:
    return AccessRequest("watch", AGENTS, manifest["metadata"]["namespace"], manifest["metadata"]["name"], "events")


def guard(connection: HTTPConnection, right: AccessRequest | None) -> Guard:
    """Ends a stream whose reader may follow no longer."""
    return lambda: while_allowed(connection, right)


def cursor_from(text: str | None) -> Cursor | None:
    """Of the stream of all agents: its own cursors, an event id or a time. Raises `Invalid`."""
    if text is None:
        return None
    return parse_cursor(text) if "~" in text else Cursor(parse_position(text).low)


def follower(streams: EventStreams, manifest: Manifest, after: str | None, group: str | None = None) -> Follower:
    """Of one agent; raises `Invalid` for a cursor or a group's name that is none."""
    metadata = manifest["metadata"]
    ref = ObjectRef.of(manifest)
    where = parse_position(after) if after is not None else None
    cursor = Cursor(where.low) if where else None
    if group:
        return streams.tail.join(ref, metadata["uid"], group, cursor)
    return streams.tail.follow(ref, metadata["uid"], cursor, is_id=where is None or where.is_id)


async def found(socket: WebSocket, name: str, namespace: str | None, default: str) -> Manifest:
    """The agent of that name in `namespace`; without one that in the default, else the only one of that name that the
    caller sees. Raises `NotFound`, `Invalid` where several have it, and `Forbidden`, whether or not there is one."""
    agents: Agents = socket.app.state.agents
    where = checked_namespace(namespace)
    try:
        await require(socket, AccessRequest("watch", AGENTS, where or default, name, "events"))
        return await agents.one(where or default, name)
    except (NotFound, Forbidden):
        if where:
            raise
        sight = Sight(socket, "watch", AGENTS, "events")
        others = [each for each in agents.named(name) if await sight.includes(each["metadata"]["namespace"])]
        if not others:
            raise
    if len(others) > 1:
        places = ", ".join(sorted(each["metadata"]["namespace"] for each in others)[:5])
        raise Invalid(f"several namespaces have an agent {name!r}; name one: {places}", field="namespace")
    return others[0]
