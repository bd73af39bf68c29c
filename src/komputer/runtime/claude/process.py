"""One Claude process, driven through the Claude Agent SDK. Every use of the SDK's private API is in this module: the
SDK's version is pinned, and the contract tests run against the real CLI.

The SDK is imported inside the functions: the import takes more than a second and runs while the runtime says hello.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from komputer.domain import money
from komputer.domain.tasks import TOKENS_LIMIT, TURNS_LIMIT, plausible

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, Message, ResultMessage
    from claude_agent_sdk.types import ModelUsage

log = logging.getLogger(__name__)

CONTROL_S: Final = 5.0
"""How long Claude may take to answer a control request (interrupt, cost); both take milliseconds."""
CONNECT_S: Final = 60.0


def checked(result: ResultMessage) -> ResultMessage:
    """Return the result with each field of the wrong type replaced by its default. The SDK does not check types."""

    def text(value: object) -> str | None:
        return value if isinstance(value, str) else None

    models = result.model_usage if isinstance(result.model_usage, dict) else {}
    uuids, status = result.user_message_uuids, result.api_error_status
    return replace(
        result,
        subtype=text(result.subtype) or "",
        is_error=result.is_error is not False,
        num_turns=plausible(result.num_turns, TURNS_LIMIT),
        session_id=(text(result.session_id) or "")[:64],
        stop_reason=text(result.stop_reason),
        total_cost_usd=money.number(money.amount(result.total_cost_usd)),
        usage=result.usage if isinstance(result.usage, dict) else None,
        result=text(result.result),
        model_usage={
            name: cast(
                "ModelUsage", {**usage, "contextWindow": plausible(usage.get("contextWindow"), TOKENS_LIMIT) or None}
            )
            for name, usage in models.items()
            if isinstance(usage, dict)
        },
        errors=[each for each in result.errors if isinstance(each, str)] if isinstance(result.errors, list) else None,
        api_error_status=status if isinstance(status, int) and 100 <= status < 1000 else None,
        terminal_reason=text(result.terminal_reason),
        user_message_uuids=[each for each in uuids if isinstance(each, str)] if isinstance(uuids, list) else None,
    )


class ClaudeDied(Exception):
    """The process has ended, could not be started, or does not speak the protocol of the pinned SDK."""


class SessionRefused(ClaudeDied):
    """Claude cannot open the session: the one to resume does not exist, or the one to create exists already."""


class Claude:
    """One Claude process and the conversation with it."""

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
        except Exception as error:  # the SDK raises bare Exceptions too
            raise self._translated(error) from error

    @property
    def pid(self) -> int | None:
        process = getattr(getattr(self._client, "_transport", None), "_process", None)
        return process.pid if process is not None and process.returncode is None else None

    async def total_cost_usd(self) -> float:
        """Return the cost of the whole session as Claude computes it. Raises `ClaudeDied`, also if no answer comes in
        time."""
        answer = await self._ask({"subtype": "get_usage"})
        session = answer.get("session")
        return money.number(money.amount(session.get("total_cost_usd") if isinstance(session, dict) else None))

    async def send(self, text: str, uuid: str) -> None:
        """Send a user message under this uuid. Raises `ClaudeDied`."""
        assert self._client is not None

        async def message() -> AsyncIterator[dict[str, Any]]:
            content = {"role": "user", "content": text}
            yield {"type": "user", "uuid": uuid, "parent_tool_use_id": None, "message": content}

        try:
            await self._client.query(message())
        except Exception as error:  # the SDK raises bare Exceptions
            raise self._translated(error) from error

    async def messages(self) -> AsyncIterator[Message]:
        """Yield Claude's messages until the process exits. Raises `ClaudeDied`."""
        from claude_agent_sdk import ResultMessage
        from claude_agent_sdk._errors import MessageParseError
        from claude_agent_sdk._internal.message_parser import parse_message

        query: Any = getattr(self._client, "_query", None)
        if query is None:
            raise ClaudeDied("Claude is not connected")
        try:
            # The client's own loop would end at the first message that it cannot parse.
            async for data in query.receive_messages():
                try:
                    message = parse_message(data)
                except (MessageParseError, TypeError, AttributeError, KeyError) as error:
                    if data.get("type") == "result":
                        raise
                    log.warning("message of claude not understood", extra={"error": str(error)[:300]})
                    continue
                if isinstance(message, ResultMessage):
                    yield checked(message)
                elif message is not None:
                    yield message
        except Exception as error:  # the SDK raises bare Exceptions
            raise self._translated(error) from error
        raise ClaudeDied("Claude closed its output without a result")

    async def interrupt(self) -> None:
        """End the running turn; its result still arrives. Raises `ClaudeDied`, also if no answer comes in time."""
        await self._ask({"subtype": "interrupt", "cancel_queued": True})

    def kill(self, number: signal.Signals) -> None:
        """Send a signal. After SIGTERM Claude ends its commands; after SIGKILL they are left to `processes.sweep`."""
        process = getattr(getattr(self._client, "_transport", None), "_process", None)
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def close(self) -> None:
        """End the process and wait for it."""
        if self._client is not None:
            try:
                await self._client.disconnect()
            except Exception as error:  # the process is gone in any case
                log.debug("claude closed with an error", extra={"error": repr(error)})

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        query: Any = getattr(self._client, "_query", None)
        if query is None:
            raise ClaudeDied("Claude is not connected")
        try:
            answer = await query._send_control_request(request, timeout=CONTROL_S)
        except Exception as error:  # the SDK raises bare Exceptions
            raise self._translated(error) from error
        return answer if isinstance(answer, dict) else {}

    def _translated(self, error: Exception) -> ClaudeDied:
        text = " ".join((str(error), *self._stderr))
        log.debug("claude failed", extra={"error": repr(error), "stderr": list(self._stderr)})
        if "No conversation found" in text or "is already in use" in text:
            return SessionRefused(text[:300])
        return ClaudeDied(f"{type(error).__name__}: {str(error)[:300]}")
