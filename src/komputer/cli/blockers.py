"""Prints why a task does not begin while `komputer run` waits for it."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from komputer.cli import show
from komputer.client import ApiError, Client, Unreachable

POLL_INTERVAL_S: Final = 1.0
STARTING_S: Final = 3.0
"""How long the start of a pod may take before it is reported."""


class Blockers:
    """Calls `tell(sentence)` for each new reason why the agent cannot work. A thread polls while the context is
    open."""

    def __init__(self, client: Client, agent: str, tell: Callable[[str], None]) -> None:
        self._client, self._agent, self._tell = client, agent, tell
        self._last = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()

    def _run(self) -> None:
        began = time.monotonic()
        while True:
            sentence = self._sentence(time.monotonic() - began)
            if self._stop.is_set():
                return
            if sentence is not None and sentence != self._last:
                if sentence or self._last:
                    self._tell(sentence or "the agent can work now")
                self._last = sentence
            if self._stop.wait(POLL_INTERVAL_S):
                return

    def _sentence(self, waited_s: float) -> str | None:
        """Return why the agent cannot work now; `""` if it can; None if there is nothing to report."""
        try:
            agent = self._client.agent(self._agent)
        except Unreachable as away:
            return away.message
        except (ApiError, RuntimeError):  # the code that follows the events reports it, or the client was closed
            return None
        return waits_for(agent, waited_s)


def waits_for(agent: dict[str, Any], waited_s: float) -> str | None:
    """Return a sentence why an agent with a task cannot work now; `""` if it can; None if it is too early to say."""
    found = show.blocker(agent)
    if found is None:
        return "" if agent.get("conditions") else None
    reason, message = found
    if reason in show.STARTING and waited_s < STARTING_S:
        return None
    return f"waiting: {message} ({reason})" if message else f"waiting: {reason}"
