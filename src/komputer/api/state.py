"""The objects that the routes of one app share. `state_of` returns them, typed, for a request or a WebSocket."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from komputer.api.agent_lists import AgentLists
from komputer.api.metrics import ApiMetrics
from komputer.api.settings import ApiSettings
from komputer.api.stream import EventStreams
from komputer.background import Background
from komputer.domain.errors import Unavailable
from komputer.events.log import Log
from komputer.http.connections import totals
from komputer.kube import Cache, Cluster
from komputer.services.access import AccessReviewer, Caller, Rights
from komputer.services.agents.agents import Agents
from komputer.services.agents.history import AgentHistory
from komputer.services.agents.overlay import Overlay
from komputer.services.agents.requests import AgentRequests
from komputer.services.connectors.connectors import Connectors
from komputer.services.connectors.reader import ConnectorReader
from komputer.services.connectors.tools import ToolListings
from komputer.services.namespaces import NamespaceService
from komputer.services.secrets import SecretStore


class Readiness:
    """Checks whether the process can answer requests."""

    def __init__(
        self,
        caches: Sequence[Cache],
        log: Log,
        overlay: Overlay,
        background: Background,
        also_ready: Callable[[], Awaitable[None]],
    ) -> None:
        self._caches = caches
        self._log = log
        self._overlay = overlay
        self._background = background
        self._also_ready = also_ready

    async def check(self) -> None:
        """Raise `Unavailable`, naming the first thing that is missing."""
        unread = [cache.kind.plural for cache in self._caches if not cache.is_synced]
        if unread:
            raise Unavailable(f"{', '.join(unread)} have not been read yet", code="starting")
        await self._log.ping()
        if not self._overlay.is_filled:
            raise Unavailable("the live state of the agents has not been read yet", code="starting")
        if problem := self._background.problem:
            raise Unavailable(problem, code="background_failed")
        if shortage := totals.shortage():
            raise Unavailable(shortage, code="too_many_connections")
        await self._also_ready()


@dataclass(frozen=True, kw_only=True)
class AgentServices:
    """The services for agents."""

    agents: Agents
    requests: AgentRequests
    lists: AgentLists
    history: AgentHistory


@dataclass(frozen=True, kw_only=True)
class ConnectorServices:
    """The services for connectors."""

    connectors: Connectors
    reader: ConnectorReader
    tools: ToolListings


@dataclass(frozen=True, kw_only=True)
class ApiState:
    """The parts of one app."""

    settings: ApiSettings
    access: AccessReviewer | None
    """None: access control is off."""
    cluster: Cluster
    agents: AgentServices
    connectors: ConnectorServices
    secrets: SecretStore
    namespaces: NamespaceService
    streams: EventStreams
    readiness: Readiness
    metrics: ApiMetrics


def app_state(app: FastAPI) -> ApiState:
    """Return the state of an app that `komputer.api.app` created."""
    state: ApiState = app.state  # type: ignore[assignment]  # Starlette declares an untyped namespace
    return state


def state_of(connection: HTTPConnection) -> ApiState:
    """Return the state of the app that serves the connection."""
    return app_state(connection.app)


def caller_of(connection: HTTPConnection) -> Caller | None:
    """Return the authenticated caller; None if access control is off."""
    caller: Caller | None = getattr(connection.state, "caller", None)
    return caller


def rights_of(connection: HTTPConnection) -> Rights:
    """Return the rights of the caller."""
    return Rights(state_of(connection).access, caller_of(connection))
