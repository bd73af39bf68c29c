"""Functions of all examples: connect to the platform, and follow a task to its end."""

import os
from collections.abc import Iterator

from komputer_ai.client import AgentEvent, KomputerClient

ENDS = ("task_completed", "task_cancelled", "error")


def connect() -> KomputerClient:
    """Return a client for the address in `KOMPUTER_API`, with or without scheme and /api/v1; default: this machine."""
    address = os.environ.get("KOMPUTER_API") or "http://127.0.0.1:8080"
    address = address if "://" in address else f"http://{address}"
    return KomputerClient(address.rstrip("/").removesuffix("/api/v1"))


def run(komputer: KomputerClient, agent: str, instructions: str, **settings) -> Iterator[AgentEvent]:
    """Give an agent a task and yield its events until the end. The call creates the agent if it does not exist.

    `watch_agent` begins with earlier events of the agent. Those that are not newer than the last one are left out.
    """
    is_known = any(found.name == agent for found in komputer.list_agents(q=agent).agents)
    before = komputer.get_agent_events(agent)["events"] if is_known else []
    last = before[-1]["timestamp"] if before else ""
    komputer.create_agent(agent, instructions, **settings)
    for event in komputer.watch_agent(agent):
        if event.timestamp > last:
            yield event
            if event.type in ENDS:
                return
    raise SystemExit("the stream ended before the task")


def result(komputer: KomputerClient, agent: str, instructions: str, **settings) -> str:
    """Give an agent a task, wait for its end, and return the result."""
    *_, end = run(komputer, agent, instructions, **settings)
    return end.payload.result or end.payload.error or end.payload.reason
