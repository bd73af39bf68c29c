"""Authentication and authorization of requests: before each operation, `authorize` checks the right that it needs.

If access control is off (on a laptop), every caller may do everything.
"""

import asyncio
import base64
import binascii
from typing import Final

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from komputer.api.errors import translated
from komputer.api.rights import NEEDS, Need, Reach
from komputer.api.state import rights_of, state_of
from komputer.domain import names
from komputer.domain.errors import Forbidden, Invalid, KomputerError
from komputer.services.access import AccessRequest, AccessReviewer, Rights

PROTECTED_PREFIX: Final = "/api/"
"""Paths below it need a token. The others (`/healthz`, `/readyz`, the documentation) reveal nothing."""
BEARER_PROTOCOL: Final = "base64url.bearer.authorization.k8s.io."
"""Prefix of the WebSocket subprotocol that carries a token, as for kube-apiserver: browsers cannot set headers of a
WebSocket."""
RECHECK_INTERVAL_S: Final = 30.0
"""Interval in seconds at which the rights of a caller who follows events are checked again."""
NOT_PERMITTED: Final = "operation not permitted"


class Authenticated:
    """Middleware that authenticates callers and stores the `Caller` in `scope["state"]["caller"]`."""

    def __init__(self, app: ASGIApp, access: AccessReviewer) -> None:
        self.app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith(PROTECTED_PREFIX):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await self.app(scope, receive, send)
            return
        authorization, protocol = credential(scope)
        try:
            caller = await self._access.caller(authorization, (scope.get("client") or ("",))[0])
        except KomputerError as error:
            await translated(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller

        async def send_with_protocol(message: Message) -> None:
            if message["type"] == "websocket.accept":
                message = {**message, "subprotocol": protocol}
            await send(message)

        await self.app(scope, receive, send_with_protocol if protocol else send)


def credential(scope: Scope) -> tuple[str | None, str | None]:
    """Return the value of the `Authorization` header and, if a WebSocket carries its token as a subprotocol, the other
    subprotocol to accept it with."""
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


async def authorize(request: Request) -> None:
    """Check the right that an operation needs, before it runs. Raises `Forbidden`, and `Invalid` for a namespace that
    the platform does not serve."""
    state, rights = state_of(request), rights_of(request)
    request.state.noted["route"] = request.scope["route"].path
    audit = getattr(request.state, "audit", None)
    served = state.settings.namespaces
    if state.access is None and audit is None and served is None:
        return
    need = _need(request)
    if need is None:
        raise Forbidden(NOT_PERMITTED)
    right = await _right(request, need)
    if audit is not None:
        audit.right = right
    if served is not None and right.namespace is not None and right.namespace not in served:
        raise Invalid(
            f"this platform serves no namespace {right.namespace!r}, but {', '.join(served)}",
            code="namespace_not_served",
            field="namespace",
        )
    if right.namespace is not None:
        if right.verb != need.verb and not await rights.allow(right):
            # The error names the operation's own verb, so that it does not reveal whether the object exists.
            await rights.require(right._replace(verb=need.verb, name=None))
        await rights.require(right)


def _need(request: Request) -> Need | None:
    return NEEDS.get(getattr(request.scope.get("route"), "operation_id", None) or "")


async def requested_namespace(request: Request) -> str | None:
    """Return the namespace that a request names, or None. Raises `Invalid`.

    Routes take the namespace from here only, so that the namespace in which they act is the one that was authorized.
    """
    need = _need(request)
    given = (await _json(request)).get("namespace") if need and need.in_body else None
    return checked_namespace(given if isinstance(given, str) and given else request.query_params.get("namespace"))


def checked_namespace(given: str | None) -> str | None:
    """Return the namespace; None for an empty one. Raises `Invalid`."""
    if given and not names.is_agent_name(given):
        raise Invalid(f"{given[:100]!r} is not the name of a namespace", field="namespace")
    return given or None


async def _right(request: Request, need: Need) -> AccessRequest:
    """Return the right that this request needs. Its `namespace` is None if nothing has to be checked beforehand."""
    if need.reach is Reach.NONE:
        return AccessRequest(need.verb, need.kind)
    namespace = await requested_namespace(request)
    if need.reach is Reach.ANY_NAMESPACE:
        return AccessRequest(need.verb, need.kind, namespace, None, need.subresource)
    state = state_of(request)
    namespace = namespace or state.settings.default_namespace
    verb, name = need.verb, request.path_params.get("name")
    if need.reach is Reach.NAMED_IN_BODY:
        given = (await _json(request)).get("name")
        if isinstance(given, str) and state.agents.agents.exists(namespace, given):
            verb, name = "update", given
    return AccessRequest(verb, need.kind, namespace, name, need.subresource)


async def _json(request: Request) -> dict[str, object]:
    """Return the body if it is a JSON object, else an empty one: the route reports what is wrong with it."""
    try:
        found = await request.json()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


async def while_allowed(connection: HTTPConnection, right: AccessRequest | None) -> None:
    """Run until the caller may no longer follow events: raises `Unauthorized` when the token is no longer valid, and
    `Forbidden` when the caller has lost `right`. While reviews are unavailable, the caller may continue."""
    access = state_of(connection).access
    authorization, _ = credential(connection.scope)
    while True:
        await asyncio.sleep(RECHECK_INTERVAL_S)
        if access is None:
            continue
        try:
            caller = await access.caller(authorization)
            if right is not None:
                await Rights(access, caller).require(right)
        except KomputerError as error:
            if error.code in ("unauthorized", "forbidden"):
                raise
