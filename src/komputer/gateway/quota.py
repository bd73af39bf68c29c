"""Limits on what is in progress at once, so that no agent can take the capacity of all others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from komputer.domain.errors import TooManyRequests
from komputer.gateway.errors import Overloaded
from komputer.gateway.settings import GatewaySettings

Take = Callable[[int], None]
"""Takes an additional amount. Raises `TooManyRequests` if the agent would hold too much, or `Overloaded` if all agents
together would; then nothing is taken."""


class Quota:
    """A limit on amounts in use: `in_all` for this process, `of_one` for one agent.

    An amount is also refused if the agent would then hold more than is left free. So agents that take as much as they
    can still leave something for the next agent, however many they are. `what` is the unit in the plural, for error
    messages.
    """

    def __init__(self, what: str, in_all: int, of_one: int) -> None:
        self._what = what
        self._of_one = of_one
        self._taken: dict[str, int] = {}
        self._free = in_all

    @contextmanager
    def held(self, uid: str, amount: int = 0) -> Iterator[Take]:
        """Hold `amount`, and what is taken inside, for the agent `uid` until the `with` block ends. Raises the errors
        of `Take`."""
        mine = 0

        def take(more: int) -> None:
            nonlocal mine
            self._take(uid, more)
            mine += more

        try:
            take(amount)
            yield take
        finally:
            self._give_back(uid, mine)

    def _take(self, uid: str, more: int) -> None:
        taken, free = self._taken.get(uid, 0) + more, self._free - more
        if taken > self._of_one:
            raise TooManyRequests(f"This agent has too many {self._what} in progress; try again.")
        if taken > free:
            raise Overloaded(f"The platform's gateway has too many {self._what} in progress; try again.")
        self._taken[uid], self._free = taken, free

    def _give_back(self, uid: str, amount: int) -> None:
        self._free += amount
        left = self._taken.pop(uid, 0) - amount
        if left:
            self._taken[uid] = left


HEARTBEAT_BYTES: Final = 64 * 2**20
HEARTBEAT_BYTES_OF_AGENT: Final = 4 * 2**20
"""Limits on the bytes of hellos and heartbeats, as Python objects: for one process and for one agent. An agent's limit
is four requests that name as many tasks as allowed."""


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """The quotas of one gateway. Bodies for the model have a quota of their own, so that requests that wait for the
    model never delay events or heartbeats."""

    model_requests: Quota
    connector_requests: Quota
    held_bytes: Quota
    """Bodies of requests to the model and to connectors."""
    posted_bytes: Quota
    """Events and managers' calls."""
    heartbeat_bytes: Quota

    @classmethod
    def of(cls, settings: GatewaySettings) -> "Quotas":
        return cls(
            model_requests=Quota("model requests", settings.max_model_requests, settings.max_model_requests_of_agent),
            connector_requests=Quota(
                "connector requests", settings.max_connector_requests, settings.max_connector_requests_of_agent
            ),
            held_bytes=Quota("bytes of requests", settings.max_held_bytes, settings.max_held_bytes_of_agent),
            posted_bytes=Quota("bytes of events", settings.max_posted_bytes, settings.max_posted_bytes_of_agent),
            heartbeat_bytes=Quota("bytes of heartbeats", HEARTBEAT_BYTES, HEARTBEAT_BYTES_OF_AGENT),
        )
