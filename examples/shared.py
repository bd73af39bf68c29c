"""Shared by the examples: the address of the platform, and a function that follows one task."""

import os
from collections.abc import Iterator

from komputer_ai.client import AgentEvent, KomputerClient

ENDS = ("task_completed", "task_cancelled", "error")


def connect() -> KomputerClient:
    """A client for the platform at `KOMPUTER_API`, with or without scheme and /api/v1; by default this machine's."""
    address = os.environ.get("KOMPUTER_API") or "http://127.0.0.1:8080"
    address = address if "://" in address else f"http://{address}"
    return KomputerClient(address.rstrip("/").removesuffix("/api/v1"))


def run(komputer: KomputerClient, agent: str, instructions: str, **settings) -> Iterator[AgentEvent]:
    """Give an agent a task, make the agent if need be, and yield the task's events until its end.

    `watch_agent` begins with what the agent did before: events that are not newer than the last one are left out.
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
    """Give a task and wait for what it ends with."""
    *_, end = run(komputer, agent, instructions, **settings)
    return end.payload.result or end.payload.error or end.payload.reason
