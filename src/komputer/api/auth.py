"""Where requests meet `access.py`: who calls is found out before anything else, what they may do before each operation.

Without access control (the laptop) nothing here does anything: everybody who gets so far may do everything.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Final

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from komputer.api.access import Access, AccessRequest, Caller
from komputer.api.errors import translated
from komputer.api.rights import NEEDS, Need
from komputer.domain import names
from komputer.domain.errors import Forbidden, Invalid, KomputerError
from komputer.kube import Kind, Permission

PROTECTED: Final = "/api/"
"""Below it everybody must say who they are; `/healthz`, `/readyz` and the documentation hold nothing."""
BEARER_PROTOCOL: Final = "base64url.bearer.authorization.k8s.io."
"""How a browser's WebSocket, which can set no header, carries a token: as it does to Kubernetes itself."""
LOOK_AGAIN_S: Final = 30.0
"""How often it is looked whether somebody who follows events still may."""


class Authenticated:
    """Finds out who calls; `scope["state"]["caller"]` is a `Caller` afterwards."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith(PROTECTED):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await self.app(scope, receive, send)
            return
        given, protocol = credential(scope)
        try:
            caller = await self._access.caller(given, (scope.get("client") or ("",))[0])
        except KomputerError as error:
            await translated(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller

        async def chosen(message: Message) -> None:
            if message["type"] == "websocket.accept" and protocol:
                message = {**message, "subprotocol": protocol}
            await send(message)

        await self.app(scope, receive, chosen if protocol else send)


def credential(scope: Scope) -> tuple[str | None, str | None]:
    """The `Authorization` of a request, and the subprotocol to accept a WebSocket with that has a token there."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if b"authorization" in headers or scope["type"] == "http":
        return headers.get(b"authorization"), None
    offered: list[str] = scope.get("subprotocols") or []
    tokens = [part.removeprefix(BEARER_PROTOCOL) for part in offered if part.startswith(BEARER_PROTOCOL)]
    others = [part for part in offered if not part.startswith(BEARER_PROTOCOL)]
    if len(tokens) != 1:
        return None, None
    try:
        token = base64.urlsafe_b64decode(tokens[0] + "=" * (-len(tokens[0]) % 4)).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    return f"Bearer {token}", next(iter(others), None)


def caller_of(connection: HTTPConnection) -> Caller | None:
    found: Caller | None = getattr(connection.state, "caller", None)
    return found


def access_of(connection: HTTPConnection) -> Access | None:
    found: Access | None = connection.app.state.access
    return found


async def authorize(request: Request) -> None:
    """Before each operation. Raises `Forbidden`."""
    access, caller = access_of(request), caller_of(request)
    request.state.noted["route"] = request.scope["route"].path
    asked = getattr(request.state, "asked", None)
    served: tuple[str, ...] | None = request.app.state.settings.namespaces
    if access is None and asked is None and served is None:
        return
    need = _need(request)
    if need is None:
        raise Forbidden("nobody may do this")
    right = await _right(request, need)
    if asked is not None:
        asked.right = right
    if served is not None and right.namespace is not None and right.namespace not in served:
        raise Invalid(
            f"this platform serves no namespace {right.namespace!r}, but {', '.join(served)}",
            code="namespace_not_served",
            field="namespace",
        )
    if access is not None and right.namespace is not None:
        if caller is None:
            raise Forbidden("nobody may do this")
        if right.verb != need.verb and not await access.may(caller, right):
            # Who may do neither is not told which of the two it would have been.
            await access.require(caller, right._replace(verb=need.verb, name=None))
        await access.require(caller, right)


def _need(request: Request) -> Need | None:
    return NEEDS.get(getattr(request.scope.get("route"), "operation_id", None) or "")


async def named_namespace(request: Request) -> str | None:
    """The namespace that a call names, or None. Routes act where this says and nowhere else, so that what is done is
    what was allowed. Raises `Invalid`."""
    need = _need(request)
    given = (await _json(request)).get("namespace") if need and need.in_body else None
    return checked_namespace(given if isinstance(given, str) and given else request.query_params.get("namespace"))


def checked_namespace(given: str | None) -> str | None:
    if given and not names.is_agent_name(given):
        raise Invalid(f"{given[:100]!r} is not the name of a namespace", field="namespace")
    return given or None


async def _right(request: Request, need: Need) -> AccessRequest:
    """What this request needs. `namespace` None: it asks for all, and is shown what it may see."""
    namespace = await named_namespace(request)
    name: str | None = request.path_params.get("name")
    verb = need.verb
    if need.scope in ("all", "anybody"):
        return AccessRequest(verb, need.kind, namespace, None, need.subresource)
    namespace = namespace or request.app.state.settings.default_namespace
    if need.scope == "named":
        given = (await _json(request)).get("name")
        if isinstance(given, str) and request.app.state.agents.knows(namespace, given):
            verb, name = "update", given
    return AccessRequest(verb, need.kind, namespace, name, need.subresource)


async def _json(request: Request) -> dict[str, object]:
    """The body, where it is an object: the very one that the route gets. What is wrong with it is told there."""
    try:
        found = await request.json()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


async def require(connection: HTTPConnection, right: AccessRequest) -> None:
    """Raises `Forbidden` where the caller lacks it."""
    access, caller = access_of(connection), caller_of(connection)
    if access is not None and caller is not None:
        await access.require(caller, right)


def permission(connection: HTTPConnection, namespace: str) -> Permission:
    """What an operation asks before it writes an object of `namespace` that its own right does not name: RBAC lets the
    caller do it, or it raises `Forbidden`."""

    async def ask(verb: str, kind: Kind, name: str | None = None) -> None:
        await require(connection, AccessRequest(verb, kind, namespace, name))

    return ask


async def may_use(request: Request, kind: Kind, namespace: str, wanted: Iterable[str] | None) -> None:
    """An agent or a connector gets only what its maker may read. Raises `Forbidden`."""
    for name in wanted or ():
        await require(request, AccessRequest("get", kind, namespace, name))


class Sight:
    """What a caller sees of a list over all namespaces."""

    def __init__(self, connection: HTTPConnection, verb: str, kind: Kind, subresource: str | None = None) -> None:
        self._access, self._caller = access_of(connection), caller_of(connection)
        self._right = AccessRequest(verb, kind, None, None, subresource)

    async def includes(self, namespace: str) -> bool:
        access, caller = self._access, self._caller
        if access is None or caller is None:
            return access is None
        return await access.may(caller, self._right) or await access.may(
            caller, self._right._replace(namespace=namespace)
        )

    async def among(self, namespaces: Callable[[], Iterable[str]]) -> frozenset[str] | None:
        """Those of `namespaces` that the caller sees; None: all there are."""
        access, caller = self._access, self._caller
        if access is None or (caller is not None and await access.may(caller, self._right)):
            return None
        candidates = sorted(set(namespaces()))
        seen = await asyncio.gather(*(self.includes(each) for each in candidates))
        return frozenset(name for name, is_seen in zip(candidates, seen, strict=True) if is_seen)


async def while_allowed(connection: HTTPConnection, right: AccessRequest | None) -> None:
    """Returns never; raises `Unauthorized` or `Forbidden` when the caller may no longer follow (`right` None: when the
    token is no longer valid). While nobody can tell, they may."""
    access = access_of(connection)
    given, _ = credential(connection.scope)
    while True:
        await asyncio.sleep(LOOK_AGAIN_S)
        if access is None:
            continue
        try:
            caller = await access.caller(given)
            if right is not None:
                await access.require(caller, right)
        except KomputerError as error:
            if error.code in ("unauthorized", "forbidden"):
                raise
