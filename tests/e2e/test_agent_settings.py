"""What an agent's settings do to its next task, with the real CLI: tools, effort, secrets, on the same pod."""

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import psutil

from tests.e2e.laptop import Laptop
from tests.e2e.platform import Json, Platform, check_log, script, until
from tests.e2e.recorder import Recorder

FIRST, SECOND = "first-Secret-Value-31415", "second-Secret-Value-27182"


def bash(command: str) -> Json:
    return {"tool": "Bash", "input": {"command": command}}


def results(platform: Platform, name: str, task: int) -> list[Json]:
    """Payloads of the tool results of the nth task."""
    ends = platform.end(name, task)
    of_task = ends["payload"]["task_id"]
    events = [e["payload"] for e in platform.events(name) if e["type"] == "tool_result"]
    return [payload for payload in events if payload["task_id"] == of_task]


def shown(requests: list[Json]) -> list[set[str]]:
    """Of each request its tools. Newer models get a placeholder beside them, which is none."""
    found = [{tool["name"] for tool in request["tools"]} for request in requests if request.get("tools")]
    return [names - {"DeferredToolPlaceholder"} for names in found]


def test_the_model_is_shown_the_tools_that_exist_and_told_the_effort(
    new_laptop: Callable[..., Laptop], recorder: Recorder
) -> None:
    laptop, seen = new_laptop(environment=recorder.environment), recorder.bodies
    fields = {"model": "claude-opus-5-5", "allowedTools": ["Bash", "Read", "Write"], "disallowedTools": ["Write"]}
    laptop.assign("tools", script({"say": "One."}), **fields, effort="low")
    assert laptop.end("tools")["type"] == "task_completed"
    assert shown(seen) == [{"Bash", "Read"}]
    assert seen[-1]["output_config"]["effort"] == "low"
    assert laptop.http.patch("/agents/tools", json={"allowedTools": [], "effort": "max"}).status_code == 200
    seen.clear()
    laptop.assign("tools", script({"say": "Two."}))
    laptop.end("tools", 2)
    (all_of_them,) = shown(seen)
    assert {"Bash", "Read", "Edit", "Grep"} <= all_of_them
    assert "Write" not in all_of_them
    assert seen[-1]["output_config"]["effort"] == "max"


def test_a_task_ends_when_it_has_taken_its_turns_and_the_limit_can_be_cleared(platform: Platform) -> None:
    steps = [bash("echo one"), bash("echo two"), bash("echo three"), {"say": "Done."}]
    platform.assign("bounded", script(*steps), maxTurns=2)
    end = platform.end("bounded")
    assert (end["type"], end["payload"]["code"]) == ("error", "max_turns")
    assert len(results(platform, "bounded", 1)) == 2
    assert platform.manifest("bounded")["spec"]["maxTurns"] == 2
    cleared = platform.http.patch("/agents/bounded", json={"maxTurns": 0})
    assert (cleared.status_code, "maxTurns" in cleared.json()) == (200, False)
    platform.assign("bounded", script(*steps))
    assert platform.end("bounded", 2)["payload"]["result"] == "Done."


def test_tools_that_do_not_exist_are_not_run_and_patterns_are_rules(platform: Platform) -> None:
    made = {"allowedTools": ["Bash", "Read"], "disallowedTools": ["Bash(rm:*)"]}
    platform.assign(
        "ruled",
        script(
            {"tool": "Write", "input": {"file_path": "/workspace/w.txt", "content": "w"}},
            bash("touch kept.txt; echo made"),
            bash("rm kept.txt"),
            bash("ls"),
            {"say": "Done."},
        ),
        **made,
    )
    write, made_it, removed, listed = results(platform, "ruled", 1)
    assert write["is_error"], "no such tool"
    assert not made_it["is_error"]
    assert removed["is_error"], "a refusal wins over what is allowed"
    assert "kept.txt" in listed["output"]
    assert "w.txt" not in listed["output"]
    pod = platform.manifest("ruled")["status"]["podName"]
    platform.assign(
        "ruled",
        script(bash("touch allowed.txt"), bash("mkdir refused"), bash("rm kept.txt"), {"say": "Done."}),
        allowedTools=["Bash(touch:*)"],
    )
    allowed, refused, still_refused = results(platform, "ruled", 2)
    assert not allowed["is_error"], allowed
    assert refused["is_error"], "only what a pattern allows"
    assert still_refused["is_error"]
    assert platform.manifest("ruled")["status"]["podName"] == pod
    check_log(platform.events("ruled"))


def pod_uid(platform: Platform, name: str) -> str:
    """Of the pod that runs, from the Kubernetes API."""
    found = platform.kubernetes("GET", f"/api/v1/namespaces/default/pods/{name}-pod")
    assert found
    assert FIRST not in str(found)
    return str(found["metadata"]["uid"])


def test_secrets_are_in_the_tools_environment_rotate_at_the_next_task_and_are_nowhere_else(platform: Platform) -> None:
    digest = 'printf %s "$SECRET_API_TOKEN" | sha256sum; printf %s "$SECRET_SHARED_KEY" | sha256sum'
    shared = platform.http.post("/secrets", json={"name": "shared", "data": {"key": FIRST[::-1]}})
    assert shared.status_code == 201
    platform.assign(
        "keeper2", script(bash(digest), {"say": "One."}), secrets={"api-token": FIRST}, secretRefs=["shared"]
    )
    (one,) = results(platform, "keeper2", 1)
    assert one["output"].split()[::2] == [sha(FIRST), sha(FIRST[::-1])]
    before = pod_uid(platform, "keeper2")
    assert platform.http.patch("/secrets/shared", json={"data": {"key": SECOND[::-1]}}).status_code == 200
    platform.assign("keeper2", script(bash(digest), {"say": "Two."}), secrets={"api-token": SECOND})
    (two,) = results(platform, "keeper2", 2)
    assert two["output"].split()[::2] == [sha(SECOND), sha(SECOND[::-1])]
    assert pod_uid(platform, "keeper2") == before
    values = [text for value in (FIRST, SECOND) for text in (value, value[::-1])]
    traces = platform.traces()
    assert not any(value in traces for value in values)
    for process in platform.agent_processes("komputer.runtime"):
        assert not any(value in " ".join(arguments(process)) for value in values)


def test_a_secret_that_a_tool_prints_is_masked_in_events_and_messages(platform: Platform) -> None:
    platform.assign(
        "teller",
        script(bash('echo "it is $SECRET_TOKEN"; env | grep SECRET_'), bash(f"echo {FIRST}"), {"say": f"So: {FIRST}."}),
        secrets={"token": FIRST, "short": "abc"},
    )
    end = platform.end("teller")
    assert end["payload"]["result"] == "So: [secret SECRET_TOKEN]."
    printed, _ = results(platform, "teller", 1)
    assert "it is [secret SECRET_TOKEN]" in printed["output"]
    assert "SECRET_SHORT=abc" in printed["output"], "too short to be recognised"
    done = platform.settled("teller", taskStatus="Complete")
    told = [e for e in platform.events("teller") if e["type"] != "task_started"]
    assert FIRST not in json.dumps(told)
    assert FIRST not in str(done["lastTaskMessage"])
    assert FIRST not in platform.logs()


def sha(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_key_survives_kill_9_of_the_api_between_any_two_steps(new_laptop: Callable[..., Laptop]) -> None:
    """The API is killed while it works on a request; the client only sends it again. Four kills: from the fifth failure
    on a part is started again every 30 s only."""
    laptop = new_laptop()
    for n in range(4):
        name, key = f"once-{n}", {"idempotency-key": f"once-{n}"}
        body: Any = {"name": name, "instructions": script({"say": "Once."}), "secrets": {"A": "some-value"}}
        victim = laptop.part("api")
        killer = threading.Timer(0.006 * n, victim.kill)
        killer.start()

        def sent_again(body: Any = body, key: Any = key, victim: psutil.Process = victim) -> httpx.Response | None:
            """What a client gets that only sends it again, once the API that is to be killed is gone."""
            is_gone = not victim.is_running()
            try:
                answer = laptop.http.post("/agents", json=body, headers=key)
            except httpx.TransportError:
                return None
            assert answer.status_code in (201, 503), answer.text
            return answer if answer.status_code == 201 and is_gone else None

        first = until(sent_again, "an answer of the next API")
        laptop.end(name)
        again = laptop.http.post("/agents", json=body, headers=key)
        assert (again.status_code, again.content) == (201, first.content)
        assert [e["type"] for e in laptop.events(name)].count("task_started") == 1


def test_published_clients_may_have_200_for_every_new_agent(new_laptop: Callable[..., Laptop]) -> None:
    laptop = new_laptop("--compat-create-status", "200")
    assert laptop.post("compat", script({"say": "Hello."})).status_code == 200
