"""One Claude process through the Claude Agent SDK. All that we use of the SDK's private side stands here: the SDK's
version is pinned, and the contract tests run against the real CLI.

The SDK is imported inside the functions: that takes more than a second, which passes beside the hello.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from komputer.events import money

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, Message

log = logging.getLogger(__name__)

CONTROL_S: Final = 5.0
"""How long Claude may take to answer an interrupt or a question about costs; both take milliseconds."""
CONNECT_S: Final = 60.0


class ClaudeDied(Exception):
    """The process ended, could not be started, or speaks what we do not understand."""


class SessionRefused(ClaudeDied):
    """Claude cannot open this session: it knows none of that id, or has one already."""


class Claude:
    def __init__(self, options: ClaudeAgentOptions) -> None:
        self._stderr: deque[str] = deque(maxlen=20)
        options.stderr = self._stderr.append
        self._options = options
        self._client: ClaudeSDKClient | None = None

    async def connect(self) -> None:
        """Start the process. Raises `SessionRefused` or `ClaudeDied`."""
        from claude_agent_sdk import ClaudeSDKClient

        self._client = ClaudeSDKClient(self._options)
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._client.connect()
        except Exception as error:  # the SDK's border: it raises bare Exceptions too
            raise self._translated(error) from error

    @property
    def pid(self) -> int | None:
        process = getattr(getattr(self._client, "_transport", None), "_process", None)
        return process.pid if process is not None and process.returncode is None else None

    async def total_cost_usd(self) -> float:
        """Of the whole session, as Claude counts. Raises `ClaudeDied` also when there is no answer in time."""
        answer = await self._ask({"subtype": "get_usage"})
        session = answer.get("session")
        return money.number(money.amount(session.get("total_cost_usd") if isinstance(session, dict) else None))

    async def give(self, prompt: str, uuid: str) -> None:
        """Send the user's message under this uuid."""
        assert self._client is not None

        async def message() -> AsyncIterator[dict[str, Any]]:
            content = {"role": "user", "content": prompt}
            yield {"type": "user", "uuid": uuid, "parent_tool_use_id": None, "message": content}

        try:
            await self._client.query(message())
        except Exception as error:  # the SDK's border
            raise self._translated(error) from error

    async def messages(self) -> AsyncIterator[Message]:
        """All that Claude says, until it ends. Raises `ClaudeDied`."""
        assert self._client is not None
        try:
            async for message in self._client.receive_messages():
                yield message
        except Exception as error:  # the SDK's border
            raise self._translated(error) from error
        raise ClaudeDied("Claude closed its output without a result")

    async def interrupt(self) -> None:
        """End the running turn; its result still comes. Raises `ClaudeDied`, also when there is no answer in time."""
        await self._ask({"subtype": "interrupt", "cancel_queued": True})

    def kill(self, number: signal.Signals) -> None:
        """SIGTERM lets Claude end its commands; SIGKILL leaves them to `processes.sweep`."""
        process = getattr(getattr(self._client, "_transport", None), "_process", None)
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def close(self) -> None:
        """End the process and wait for it."""
        if self._client is not None:
            try:
                await self._client.disconnect()
            except Exception as error:  # the SDK's border: what it says while closing changes nothing any more
                log.debug("claude closed with an error", extra={"error": repr(error)})

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        query: Any = getattr(self._client, "_query", None)
        if query is None:
            raise ClaudeDied("Claude is not connected")
        try:
            answer = await query._send_control_request(request, timeout=CONTROL_S)
        except Exception as error:  # the SDK's border: it raises bare Exceptions
            raise self._translated(error) from error
        return answer if isinstance(answer, dict) else {}

    def _translated(self, error: Exception) -> ClaudeDied:
        said = " ".join((str(error), *self._stderr))
        log.debug("claude failed", extra={"error": repr(error), "stderr": list(self._stderr)})
        if "No conversation found" in said or "is already in use" in said:
            return SessionRefused(said[:300])
        return ClaudeDied(f"{type(error).__name__}: {str(error)[:300]}")
