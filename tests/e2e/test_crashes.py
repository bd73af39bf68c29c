"""kill -9 in the middle of a task, one part at a time: it ends exactly once, nothing is told twice, nothing is lost."""

import signal
from collections.abc import Callable

import httpx
import psutil
import pytest

from tests.e2e.laptop import Json, Laptop, check_log, script, until

WORK = (
    {"say": "Before."},
    {"tool": "Bash", "input": {"command": "echo once >> /workspace/trace.txt; sleep 2; echo slept"}},
    {"tool": "Bash", "input": {"command": "cat /workspace/trace.txt"}},
    {"say": "After."},
)


def finished(laptop: Laptop, name: str) -> list[Json]:
    """The agent's events when its one task has ended and is accounted, after the checks that hold in any case."""
    laptop.end(name, within_s=90)
    until(lambda: laptop.agent(name).get("lastTaskOutcome") and laptop.agent(name).get("totalCostUSD"), "accounted")
    events = laptop.events(name)
    check_log(events)
    assert [e["type"] for e in events].count("task_started") == 1
    ends = [e for e in events if e["type"] in ("task_completed", "task_cancelled", "error")]
    assert len(ends) == 1
    cost = float(laptop.agent(name)["totalCostUSD"])
    assert cost == pytest.approx(ends[0]["payload"]["cost_usd"], abs=1e-9), "cost is counted once"
    return events


def test_the_cli_is_killed(laptop: Laptop) -> None:
    laptop.assign("orphan", script(*WORK))
    laptop.event("orphan", "tool_call")
    (cli,) = [p for p in laptop.agent_processes("_bundled/claude") if in_agent(laptop, p, "orphan")]
    cli.kill()
    events = finished(laptop, "orphan")
    assert events[-1]["type"] == "task_completed"
    assert events[-1]["payload"]["result"] == "After."
    assert [e["payload"]["attempt"] for e in events if e["type"] == "task_resumed"] == [2]


def test_the_runtime_is_killed(laptop: Laptop) -> None:
    laptop.assign("widow", script(*WORK))
    laptop.event("widow", "tool_call")
    for process in laptop.agent_processes("komputer.runtime"):
        if in_agent(laptop, process, "widow"):
            process.kill()
    events = finished(laptop, "widow")
    assert events[-1]["payload"]["result"] == "After."
    assert any(e["type"] == "task_resumed" for e in events)


def test_valkey_is_killed(laptop: Laptop) -> None:
    laptop.assign("amnesia", script(*WORK))
    laptop.event("amnesia", "tool_call")
    (server,) = [p for p in laptop.part("valkey").children() if "valkey" in p.name()]
    server.kill()
    events = finished(laptop, "amnesia")
    assert events[-1]["payload"]["result"] == "After."
    assert not any(e["type"] == "task_resumed" for e in events), "the agent worked on"


@pytest.mark.parametrize("part", ["gateway", "operator", "api", "kubernetes"])
def test_a_part_of_the_platform_is_killed(laptop: Laptop, part: str) -> None:
    name = f"without-{part}"
    laptop.assign(name, script(*WORK))
    laptop.event(name, "tool_call")
    laptop.part(part).kill()
    until(lambda: answers(laptop, name), f"the API answers without {part}", 15)
    events = finished(laptop, name)
    assert events[-1]["payload"]["result"] == "After."


def answers(laptop: Laptop, name: str) -> bool:
    """Whether the API knows the agent; it may be away itself, or not have looked yet."""
    try:
        return laptop.http.get(f"/agents/{name}").status_code == 200
    except httpx.TransportError:
        return False


def test_the_whole_platform_is_killed(new_laptop: Callable[..., Laptop]) -> None:
    laptop = new_laptop()
    laptop.assign("lazarus", script(*WORK))
    laptop.event("lazarus", "tool_call")
    assert laptop.process
    family = [laptop.process.pid, *(p.pid for p in psutil.Process(laptop.process.pid).children(recursive=True))]
    laptop.kill()
    until(lambda: not [pid for pid in family if psutil.pid_exists(pid)], "no agent works on without its platform", 15)
    laptop.start()
    events = finished(laptop, "lazarus")
    assert events[-1]["payload"]["result"] == "After."
    assert laptop.post("lazarus", script({"say": "Next."})).status_code == 200
    assert laptop.end("lazarus", 2)["payload"]["session_id"] == events[-1]["payload"]["session_id"]


def test_ctrl_c_interrupts_the_task_and_the_next_start_resumes_it(new_laptop: Callable[..., Laptop]) -> None:
    laptop = new_laptop()
    laptop.assign("sleeper", script(*WORK))
    laptop.event("sleeper", "tool_call")
    assert laptop.stop(signal.SIGINT) == 0
    assert not any(e["type"] == "task_cancelled" for e in laptop.start().events("sleeper"))
    events = finished(laptop, "sleeper")
    assert events[-1]["payload"]["result"] == "After."
    assert any(e["type"] == "task_resumed" for e in events)


def in_agent(laptop: Laptop, process: psutil.Process, name: str) -> bool:
    """Whether the process belongs to that agent's pod: the environment of its container says so."""
    try:
        return process.environ().get("KOMPUTER_AGENT") == name or any(
            parent.environ().get("KOMPUTER_AGENT") == name for parent in process.parents()
        )
    except psutil.Error:
        return False
