"""A second task goes on with the conversation and the files of the first."""

import os

from komputer_ai.client import KomputerClient


def result(komputer: KomputerClient, agent: str, instructions: str) -> str:
    """Give a task and wait for its result."""
    seen = {event["timestamp"] for event in events(komputer, agent)}
    komputer.create_agent(agent, instructions)
    for event in komputer.watch_agent(agent):
        if event.timestamp not in seen and event.type in ("task_completed", "task_cancelled", "error"):
            return event.payload.result or event.payload.error or event.payload.reason
    raise SystemExit("the stream ended before the task")


def events(komputer: KomputerClient, agent: str) -> list[dict]:
    known = any(found.name == agent for found in komputer.list_agents(q=agent).agents)
    return komputer.get_agent_events(agent)["events"] if known else []


with KomputerClient(os.environ.get("KOMPUTER_URL", "http://127.0.0.1:8080")) as komputer:
    print("first: ", result(komputer, "writer", "Write a haiku about pods into haiku.txt."))
    print("second:", result(komputer, "writer", "Translate it into German."))
    sessions = {e["payload"]["session_id"] for e in events(komputer, "writer") if e["type"] == "task_completed"}
    print("one conversation:", len(sessions) == 1)
