"""kill -9 in the middle of a task, one part at a time: it ends exactly once, nothing is told twice, nothing is lost."""

import signal
from collections.abc import Callable

import httpx
import psutil
import pytest

from tests.e2e.laptop import Laptop
from tests.e2e.platform import Json, Platform, check_log, script, until

WORK = (
    {"say": "Before."},
    {"tool": "Bash", "input": {"command": "echo once >> /workspace/trace.txt; sleep 2; echo slept"}},
    {"tool": "Bash", "input": {"command": "cat /workspace/trace.txt"}},
    {"say": "After."},
)


def finished(platform: Platform, name: str) -> list[Json]:
    """The agent's events when its one task has ended and is accounted, after the checks that hold in any case."""
    platform.end(name, within_s=90)
    until(lambda: platform.agent(name).get("lastTaskOutcome") and platform.agent(name).get("totalCostUSD"), "accounted")
    events = platform.events(name)
    check_log(events)
    assert [e["type"] for e in events].count("task_started") == 1
    ends = [e for e in events if e["type"] in ("task_completed", "task_cancelled", "error")]
    assert len(ends) == 1
    cost = float(platform.agent(name)["totalCostUSD"])
    assert cost == pytest.approx(ends[0]["payload"]["cost_usd"], abs=1e-9), "cost is counted once"
    return events


def test_the_cli_is_killed(platform: Platform) -> None:
    platform.assign("orphan", script(*WORK))
    platform.event("orphan", "tool_call")
    platform.claude("orphan").kill()
    events = finished(platform, "orphan")
    assert events[-1]["type"] == "task_completed"
    assert events[-1]["payload"]["result"] == "After."
    assert [e["payload"]["attempt"] for e in events if e["type"] == "task_resumed"] == [2]


def test_the_runtime_is_killed(platform: Platform) -> None:
    platform.assign("widow", script(*WORK))
    platform.event("widow", "tool_call")
    platform.kill_runtime("widow")
    events = finished(platform, "widow")
    assert events[-1]["payload"]["result"] == "After."
    assert any(e["type"] == "task_resumed" for e in events)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_runtime_hangs(platform: Platform) -> None:
    """`kill -STOP`: its pod is replaced after a minute of silence, and the task goes on. Without that minute:
    contract/operator/test_operator_silence.py, and for the task contract/runtime/test_runtime_faults.py."""
    platform.assign("frozen", script(*WORK))
    platform.event("frozen", "tool_call")
    platform.stop_runtime("frozen")
    platform.end("frozen", within_s=240)
    events = finished(platform, "frozen")
    assert events[-1]["payload"]["result"] == "After."
    assert any(e["type"] == "task_resumed" for e in events)
    platform.assign("frozen", script({"say": "Again."}))


def test_valkey_is_killed(platform: Platform) -> None:
    platform.assign("amnesia", script(*WORK))
    platform.event("amnesia", "tool_call")
    platform.kill_part("valkey")
    events = finished(platform, "amnesia")
    assert events[-1]["payload"]["result"] == "After."
    assert not any(e["type"] == "task_resumed" for e in events), "the agent worked on"


@pytest.mark.parametrize("part", ["gateway", "operator", "api", "kubernetes"])
def test_a_part_of_the_platform_is_killed(platform: Platform, part: str) -> None:
    name = f"without-{part}"
    platform.assign(name, script(*WORK))
    platform.event(name, "tool_call")
    platform.kill_part(part)
    until(lambda: answers(platform, name), f"the API answers without {part}")
    events = finished(platform, name)
    assert events[-1]["payload"]["result"] == "After."


def answers(platform: Platform, name: str) -> bool:
    """Whether the API knows the agent; it may be away itself, or not have looked yet."""
    try:
        return platform.http.get(f"/agents/{name}").status_code == 200
    except httpx.TransportError:
        return False


def test_the_whole_platform_is_killed(new_laptop: Callable[..., Laptop]) -> None:
    laptop = new_laptop()
    laptop.assign("lazarus", script(*WORK))
    laptop.event("lazarus", "tool_call")
    assert laptop.process
    family = [laptop.process.pid, *(p.pid for p in psutil.Process(laptop.process.pid).children(recursive=True))]
    laptop.kill()
    until(lambda: not [pid for pid in family if psutil.pid_exists(pid)], "no agent works on without its platform")
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
