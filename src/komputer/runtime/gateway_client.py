"""The client of the gateway: one method per call, each with the pod's own token."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from komputer.backoff import Backoff
from komputer.domain.base import WireModel
from komputer.domain.errors import Forbidden, Invalid, KomputerError, Unavailable
from komputer.http import keepalive
from komputer.protocol import older, wire
from komputer.runtime.ledger.ledger import Outgoing

# Where click and rich are installed, httpx would also import its command line: 0.25 s of each agent's start.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402

log = logging.getLogger(__name__)

SILENCE_S: Final = 3 * wire.HEARTBEAT_S
"""How long an assignment stream may send no bytes before it is considered dead."""
CONNECT_S: Final = 5.0
ANSWER_S: Final = 30.0
"""How long an answer may take. The log answers a start only when the start is on its disk."""
BACKOFF: Final = Backoff(0.1, 5.0, jitter=0.5)
"""The pauses between attempts to reach the gateway; the jitter keeps many agents from retrying at once."""
LINE_LIMIT_BYTES: Final = 32 * 2**20
"""The longest line of the assignment stream. It leaves room for an assignment with 1 MiB of instructions and a system
prompt, where ASCII JSON may need six bytes per character."""

Body = TypeVar("Body", bound=WireModel)
Line = wire.Assignment | wire.TaskMessage | wire.Pulse
_KINDS: Final[dict[Any, type[Line]]] = {"pulse": wire.Pulse, "message": wire.TaskMessage}


class PodDismissed(KomputerError):
    """The agent is deleted, so this runtime must exit."""

    code = "gone"


class GatewayClient:
    """The runtime's HTTP client of the gateway.

    Its methods raise `PodDismissed` if the agent is deleted, `Forbidden` if this pod is not the agent's current pod,
    `Invalid` for a request that the gateway will never accept, and `Unavailable` for a failure that may pass.
    """

    def __init__(self, gateway_url: str, token_file: Path) -> None:
        self._token_file = token_file
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        # Forwarded requests have no time limit, so only TCP keep-alive detects that the gateway has disappeared.
        transport = httpx.AsyncHTTPTransport(trust_env=False, socket_options=keepalive.socket_options())
        self.http = httpx.AsyncClient(
            base_url=gateway_url, timeout=timeout, transport=transport, trust_env=False, follow_redirects=False
        )

    async def hello(self, body: wire.Hello) -> wire.Welcome:
        return await self._call("/v1/hello", body.model_dump_json(), wire.Welcome)

    async def heartbeat(self, body: wire.Heartbeat) -> wire.Pulse:
        return await self._call("/v1/heartbeat", body.model_dump_json(), wire.Pulse)

    async def post(self, term: int, events: Sequence[tuple[Outgoing, str | None]]) -> wire.Posted:
        """Send events under the term. Each comes with the id of the last message that the model has answered, or None
        (see `rules.acked_by`)."""
        body = {"formatVersion": wire.FORMAT_VERSION, "term": term, "events": [_numbered(*each) for each in events]}
        return await self._call("/v1/events", json.dumps(body), wire.Posted)

    async def assignments(self) -> AsyncIterator[Line]:
        """Yield each line that the gateway sends, and reconnect whenever the stream breaks. Ends only by raising
        `PodDismissed`."""
        failures = 0
        while True:
            try:
                async for line in self._stream():
                    failures = 0
                    yield line
            except (Unavailable, Forbidden, Invalid) as error:
                log.warning("assignment stream broken", extra={"error": error.message})
            failures += 1
            await asyncio.sleep(BACKOFF.delay_s(failures))

    async def close(self) -> None:
        await self.http.aclose()

    def authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token()}"}

    def token(self) -> str:
        """Return the pod's token from its file, which the kubelet replaces from time to time. Raises `Unavailable`."""
        try:
            return self._token_file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise Unavailable(f"The pod's token cannot be read from {self._token_file}: {error}.") from error

    async def _stream(self) -> AsyncIterator[Line]:
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        try:
            async with self.http.stream(
                "GET", "/v1/assignment", headers=self.authorization(), timeout=timeout
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise refusal(response)
                async for line in split_lines(response.aiter_bytes()):
                    if line.strip():
                        yield _line(line)
        except httpx.HTTPError as error:
            raise Unavailable(f"The gateway's assignment stream broke: {error!r}.") from error

    async def _call(self, path: str, body: str, answer: type[Body]) -> Body:
        headers = {**self.authorization(), "content-type": "application/json"}
        try:
            response = await self.http.post(path, content=body.encode(), headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"The gateway did not answer {path}: {error!r}.") from error
        if response.status_code != 200:
            raise refusal(response)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise Unavailable(f"The gateway's answer to {path} was not understood: {error}.") from error


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of an NDJSON stream, without the `\\n` that ends each. Only `\\n` ends a line. An incomplete last
    line is dropped. Raises `Unavailable` for a line of more than `LINE_LIMIT_BYTES`."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield b"".join((*parts, line))
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
        if size > LINE_LIMIT_BYTES:
            raise Unavailable(f"The gateway sent a line of more than {LINE_LIMIT_BYTES} bytes.")


def refusal(response: httpx.Response) -> KomputerError:
    """Return the error for a response's status. Its body must have been read."""
    message = f"The gateway answered {response.status_code} to {response.request.url.path}: {response.text[:300]}"
    match response.status_code:
        case 410:
            return PodDismissed(message)
        case 403:
            return Forbidden(message)
        case 400 | 413 | 422:
            return Invalid(message)
        case _:
            return Unavailable(message)


def _numbered(entry: Outgoing, acked_message_id: str | None) -> dict[str, Any]:
    event: dict[str, Any] = {"type": entry.type, "payload": entry.payload, **older.both(older.SEQ, entry.seq)}
    if entry.generation is not None:
        event["generation"] = entry.generation
    if acked_message_id is not None:
        event |= older.both(older.ACKED_MESSAGE_ID, acked_message_id)
    return event


def _line(line: bytes) -> Line:
    try:
        body = json.loads(line)
        return _KINDS.get(body.get("type"), wire.Assignment).model_validate(body)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise Unavailable(f"The gateway sent a line that was not understood: {error}.") from error
