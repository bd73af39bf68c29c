"""Forwards a manager's MCP calls to the platform's MCP server, with the pod's own token.

A call that breaks because a gateway stops is repeated, to any gateway that answers. This is safe: calls are
independent, and a repeated call does nothing twice. So Claude does not notice a restart of the gateway.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any, Final

import httpx

from komputer.domain.errors import Unavailable
from komputer.runtime.gateway_client import BACKOFF, CONNECT_S, GatewayClient

log = logging.getLogger(__name__)

PATH: Final = "/komputer/mcp"
SERVER: Final = "komputer"
SILENCE_S: Final = 60.0
"""How long an answer may send no bytes. The gateway sends some at least every 15 s."""
UNREACHABLE_S: Final = 300.0
"""How long the gateway may be unreachable before the call fails."""
CALL_LIMIT_MS: Final = 2_000_000_000
"""Claude's own limit for a call in milliseconds: 23 days, in effect no limit."""
_EVENT_END: Final = re.compile(rb"\r?\n\r?\n")
_OURS: Final = frozenset({"host", "authorization", "x-api-key", "content-length", "connection", "accept-encoding"})
_PASSED: Final = frozenset({"content-type", "cache-control", "mcp-session-id", "mcp-protocol-version"})


def _is_response(event: bytes) -> bool:
    """Whether this event is the response to the call. Other events report progress."""
    data = b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
    try:
        message = json.loads(data)
    except ValueError:
        return False
    return isinstance(message, dict) and ("result" in message or "error" in message)


class ManagerCall:
    """One call of Claude, repeated until it is answered."""

    def __init__(self, gateway: GatewayClient, headers: list[tuple[bytes, bytes]], body: bytes, send: Any) -> None:
        self._gateway = gateway
        self._headers = {
            name.decode(): value.decode("latin-1") for name, value in headers if name.decode() not in _OURS
        }
        self._body = body
        self._send = send
        self._has_begun = False
        self._has_progressed = False

    async def run(self) -> None:
        """Answer the call. Raises `Unavailable` if the gateway is unreachable for `UNREACHABLE_S`; Claude's connection
        then breaks."""
        now = asyncio.get_running_loop().time
        reachable_at, failures = now(), 0
        while True:
            self._has_progressed = False
            try:
                if await self._try():
                    return
            except (httpx.HTTPError, Unavailable) as error:
                log.info("manager's call broken", extra={"error": repr(error)})
            if self._has_progressed:
                reachable_at, failures = now(), 0
            if now() - reachable_at > UNREACHABLE_S:
                raise Unavailable("The platform's gateway cannot be reached.")
            failures += 1
            await asyncio.sleep(BACKOFF.delay_s(failures))

    async def _try(self) -> bool:
        """Send the call once, and forward the events of its answer as they arrive. Return whether the answer is
        complete. A repeated call sends its events on the response that an earlier attempt has begun."""
        headers = {**self._headers, **self._gateway.authorization()}
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        async with self._gateway.http.stream(
            "POST", PATH, headers=headers, content=self._body, timeout=timeout
        ) as answer:
            if answer.status_code >= 500 or answer.status_code == 401:
                return False
            is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
            if not is_stream:
                await self._whole(answer.status_code, answer.headers, await answer.aread())
                return True
            self._has_progressed = True
            await self._begin(answer.status_code, answer.headers)
            left, is_last = b"", False
            async for chunk in answer.aiter_bytes():
                *whole, left = _EVENT_END.split(left + chunk)
                for event in whole:
                    is_last = is_last or _is_response(event)
                    more = {"type": "http.response.body", "body": event + b"\n\n", "more_body": True}
                    await self._send(more)
            if is_last:
                await self._send({"type": "http.response.body", "body": b""})
            return is_last

    async def _whole(self, status: int, headers: httpx.Headers, body: bytes) -> None:
        if self._has_begun:
            await self._send({"type": "http.response.body", "body": b"event: message\ndata: " + body + b"\n\n"})
            return
        await self._begin(status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def _begin(self, status: int, headers: httpx.Headers) -> None:
        if not self._has_begun:
            self._has_begun = True
            passed = [(name.encode(), value.encode()) for name, value in headers.items() if name in _PASSED]
            await self._send({"type": "http.response.start", "status": status, "headers": passed})
