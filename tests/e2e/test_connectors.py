"""Connectors on one machine: agents that call the tools of a real MCP server through the gateway."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.laptop import Laptop
from tests.e2e.pages import blocks, shell
from tests.e2e.platform import Json, Platform, script, until
from tests.fixtures.mcp_generations import HEADER, PATIENT, TOKEN, old_python
from tests.fixtures.mcp_servers import McpServer

__all__ = ["old_python"]


@pytest.fixture(scope="module")
def server(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpServer]:
    with McpServer(tmp_path_factory.mktemp("mcp"), HEADER, host=platform.ip) as running:
        yield running


def make(platform: Platform, name: str, url: str, **fields: object) -> Json:
    answer = platform.http.post("/connectors", json={"name": name, "service": "custom", "url": url, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def add(connector: str, a: int = 1, b: int = 2) -> Json:
    return {"tool": f"mcp__{connector}__add", "input": {"a": a, "b": b}}


def test_an_agent_calls_a_tool_of_a_connector_and_gets_its_answer(platform: Platform, server: McpServer) -> None:
    made = make(platform, "adder", server.url, token=TOKEN)
    assert TOKEN not in str(made)
    platform.assign("caller", script(add("adder", 20, 22), {"say": "done"}), connectors=["adder"])
    end = platform.end("caller")
    result = platform.event("caller", "tool_result")["payload"]
    assert result["tool"] == "mcp__adder__add"
    assert "sum=42" in result["output"]
    assert result["is_error"] is False
    assert end["type"] == "task_completed"
    assert {request["status"] for request in server.seen} == {200}, "the header was there at every request"


@PATIENT
@pytest.mark.parametrize("form", ["stream", "json"])
def test_a_server_of_the_older_generation_with_sessions_is_used_too(
    platform: Platform, tmp_path: Path, old_python: str, form: str
) -> None:
    name = f"old-{form}"
    with McpServer(tmp_path, HEADER, form, python=old_python, host=platform.ip) as server:
        make(platform, name, server.url, token=TOKEN)
        platform.assign(f"uses-{name}", script(add(name, 20, 22), {"say": "done"}), connectors=[name])
        platform.end(f"uses-{name}")
        assert "sum=42" in platform.event(f"uses-{name}", "tool_result")["payload"]["output"]
        assert any("mcp-session-id" in request["headers"] for request in server.seen)
        assert all(request["headers"]["authorization"] == f"Bearer {TOKEN}" for request in server.seen)


def search(secret: str) -> str:
    """Everything that an agent can read, without the secret standing in the command itself."""
    half = len(secret) // 2
    return (
        "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; "
        f"grep -rI --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr '{secret[:half]}''{secret[half:]}' / "
        "2>/dev/null; echo searched"
    )


def test_an_agent_that_looks_everywhere_finds_no_token(platform: Platform, server: McpServer) -> None:
    make(platform, "private", server.url, token=TOKEN)
    steps = [add("private"), {"tool": "Bash", "input": {"command": search(TOKEN)}}, {"say": "done"}]
    platform.assign("snoop", script(*steps), connectors=["private"])
    assert platform.end("snoop")["type"] == "task_completed"
    assert "sum=3" in platform.event("snoop", "tool_result")["payload"]["output"]
    found = platform.event("snoop", "tool_result", 2)["payload"]["output"]
    assert "searched" in found
    assert TOKEN not in found
    assert TOKEN not in json.dumps(platform.events("snoop"))
    assert TOKEN not in platform.http.get("/connectors").text + platform.http.get("/connectors/private").text
    assert TOKEN not in platform.logs()


def waiting(nth: int = 1) -> Json:
    """A step that goes on when `go_on` says so."""
    return {"tool": "Bash", "input": {"command": f"until [ -e go-{nth} ]; do sleep 0.05; done"}}


def go_on(platform: Platform, agent: str, nth: int = 1) -> None:
    folder = platform.workspace(agent)
    assert folder
    (folder / f"go-{nth}").touch()


def pod_uid(platform: Platform, agent: str) -> str:
    found = platform.kubernetes("GET", f"/api/v1/namespaces/default/pods/{agent}-pod")
    assert found is not None
    return str(found["metadata"]["uid"])


def patch(platform: Platform, agent: str, connectors: list[str]) -> None:
    answer = platform.http.patch(f"/agents/{agent}", json={"connectors": connectors})
    assert answer.status_code == 200, answer.text


def test_detaching_acts_on_the_running_task_and_attaching_on_the_next(platform: Platform, server: McpServer) -> None:
    make(platform, "old", server.url, token=TOKEN)
    make(platform, "new", server.url, token=TOKEN)
    platform.assign(
        "changing", script(add("old"), waiting(), add("old"), add("new"), {"say": "one"}), connectors=["old"]
    )
    platform.event("changing", "tool_call", 2)
    pod = pod_uid(platform, "changing")
    patch(platform, "changing", ["new"])
    go_on(platform, "changing")
    platform.end("changing")
    first, detached, not_yet = (platform.event("changing", "tool_result", n)["payload"] for n in (1, 3, 4))
    assert "sum=3" in first["output"]
    assert detached["is_error"]
    assert "not attached" in detached["output"]
    assert not_yet["is_error"]
    platform.assign("changing", script(add("new"), add("old"), {"say": "two"}))
    platform.end("changing", 2)
    attached, gone = (platform.event("changing", "tool_result", n)["payload"] for n in (5, 6))
    assert "sum=3" in attached["output"]
    assert gone["is_error"]
    assert pod_uid(platform, "changing") == pod, "the pod is the same"
    patch(platform, "changing", [])
    assert "connectors" not in platform.agent("changing")


def condition(platform: Platform, agent: str) -> Json:
    found = platform.agent(agent).get("conditions", [])
    return next((each for each in found if each["type"] == "ConnectorsFound"), {})


def test_deleting_a_connector_names_its_agents_whose_next_task_runs_without(
    platform: Platform, server: McpServer
) -> None:
    made = make(platform, "brief", server.url, token=TOKEN)
    platform.assign("loser", script(add("brief"), {"say": "one"}), connectors=["brief"])
    platform.end("loser")
    listed = platform.http.get("/connectors").json()["connectors"]
    (mine,) = (each for each in listed if each["name"] == "brief")
    assert (mine["attachedAgents"], mine["agentNames"]) == (1, ["loser"])
    assert mine["health"]["state"] == "ok"
    resource = "/apis/komputer.komputer.ai/v1alpha1/namespaces/default/komputerconnectors/brief"

    def counted() -> bool:
        status = (platform.kubernetes("GET", resource) or {}).get("status", {})
        return bool(status.get("agentNames") == ["loser"] and status.get("attachedAgents") == 1)

    until(counted, "kubectl shows the count")
    until(lambda: condition(platform, "loser").get("status") == "True", "the connector is found")
    answer = platform.http.delete("/connectors/brief")
    assert answer.status_code == 200
    assert answer.json() == {"status": "deleted", "name": "brief", "agentNames": ["loser"]}
    until(lambda: condition(platform, "loser").get("reason") == "ConnectorMissing", "a condition says so")
    assert "'brief'" in condition(platform, "loser")["message"]
    platform.assign("loser", script(add("brief"), {"say": "two"}))
    assert platform.end("loser", 2)["type"] == "task_completed"
    assert platform.event("loser", "tool_result", 2)["payload"]["is_error"]
    path = f"/api/v1/namespaces/default/secrets/{made['authSecretName']}"
    until(lambda: platform.kubernetes("GET", path, status=404), "the Secret went with it")
    make(platform, "brief", server.url, token=TOKEN)
    until(lambda: condition(platform, "loser").get("status") == "True", "it is there again")
    platform.http.patch("/connectors/brief", json={"disabled": True})
    until(lambda: condition(platform, "loser").get("reason") == "ConnectorDisabled", "disabled is told too")


def test_a_refused_token_is_told_to_the_agent_and_shown_until_it_is_replaced(
    platform: Platform, tmp_path: Path
) -> None:
    with McpServer(tmp_path, HEADER, host=platform.ip) as server:
        make(platform, "expiring", server.url, token=TOKEN)
        platform.assign(
            "expired",
            script(add("expiring"), waiting(), add("expiring"), waiting(2), add("expiring"), {"say": "one"}),
            connectors=["expiring"],
        )
        platform.event("expired", "tool_call", 2)
        server.lets_in("authorization: Bearer another-token-0123")
        go_on(platform, "expired")
        refused = platform.event("expired", "tool_result", 3)["payload"]
        assert refused["is_error"]
        assert "does not accept the connector's credential (401)" in refused["output"]
        health = platform.http.get("/connectors/expiring").json()["health"]
        assert (health["state"], health["code"]) == ("failed", "mcp_unauthorized")
        tools = platform.http.get("/connectors/expiring/tools")
        assert (tools.status_code, tools.json()["code"]) == (502, "mcp_unauthorized")
        changed = platform.http.patch("/connectors/expiring", json={"token": "another-token-0123"})
        assert changed.status_code == 200
        assert changed.json()["health"] == {"state": "unknown"}
        time.sleep(2.1)  # the gateway keeps a Secret for two seconds
        go_on(platform, "expired", 2)
        platform.end("expired")
        assert "sum=3" in platform.event("expired", "tool_result", 5)["payload"]["output"]
        tools = platform.http.get("/connectors/expiring/tools").json()["tools"]
        assert {"name": "add", "description": "Add two numbers."} in tools
        assert platform.http.get("/connectors/expiring").json()["health"]["state"] == "ok"


def test_no_connector_leads_to_the_platform_itself(laptop: Laptop) -> None:
    kubernetes = laptop.kubernetes_url()
    for url in (kubernetes, laptop.url, kubernetes.replace("127.0.0.1", "127.0.0.2")):
        body = {"name": "inward", "service": "custom", "url": url, "token": TOKEN}
        answer = laptop.http.post("/connectors", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "address_not_allowed")
    spec = {"service": "custom", "url": f"{kubernetes}/mcp", "authType": "none"}
    manifest = {
        "apiVersion": "komputer.komputer.ai/v1alpha1",
        "kind": "KomputerConnector",
        "metadata": {"name": "inward", "namespace": "default"},
        "spec": spec,
    }
    path = "/apis/komputer.komputer.ai/v1alpha1/namespaces/default/komputerconnectors"
    assert laptop.kubernetes("POST", path, manifest, status=201)
    tools = until(lambda: laptop.http.get("/connectors/inward/tools"), "an answer")
    assert (tools.status_code, tools.json()["code"]) == (502, "mcp_address_not_allowed")
    laptop.assign("inward-looking", script(add("inward"), {"say": "no"}), connectors=["inward"])
    assert laptop.end("inward-looking")["type"] == "task_completed"
    assert laptop.event("inward-looking", "tool_result")["payload"]["is_error"]


def test_a_long_call_is_waited_for_and_a_cancelled_one_reaches_the_server(
    platform: Platform, server: McpServer
) -> None:
    make(platform, "patient", server.url, token=TOKEN)
    slow = {"tool": "mcp__patient__slow", "input": {"seconds": 3}}
    platform.assign("patient", script(slow, {"say": "one"}), connectors=["patient"])
    platform.end("patient")
    assert "slept well" in platform.event("patient", "tool_result")["payload"]["output"]
    platform.assign("patient", script({"tool": "mcp__patient__slow", "input": {"seconds": 600}}, {"say": "two"}))
    until(lambda: server.said.count("slow began") == 2, "the second call is there")
    assert platform.http.post("/agents/patient/cancel").status_code == 200
    assert platform.end("patient", 2)["type"] == "task_cancelled"
    until(lambda: "slow cancelled" in server.said, "the server was told")


def test_a_server_that_hangs_delays_the_first_turn_by_seconds_only(platform: Platform) -> None:
    with socket.create_server((platform.ip, 0)) as mute:
        make(platform, "mute", f"http://{platform.ip}:{mute.getsockname()[1]}/mcp")
        platform.assign("impatient", script({"say": "on time"}), connectors=["mute"])
        assert platform.end("impatient")["payload"]["result"] == "on time"
        began, spoke = (told_at(platform.event("impatient", kind)) for kind in ("task_started", "text"))
        assert spoke - began < timedelta(seconds=25)


def told_at(event: Json) -> datetime:
    return datetime.fromisoformat(event["timestamp"])


def test_a_connector_that_never_existed_in_a_manifest_is_a_condition_and_the_task_runs(platform: Platform) -> None:
    manifest = {
        "apiVersion": "komputer.komputer.ai/v1alpha1",
        "kind": "KomputerAgent",
        "metadata": {"name": "hopeful", "namespace": "default"},
        "spec": {"instructions": script({"say": "without"}), "connectors": ["never-made"]},
    }
    path = "/apis/komputer.komputer.ai/v1alpha1/namespaces/default/komputeragents"
    assert platform.kubernetes("POST", path, manifest, status=201)
    until(lambda: platform.http.get("/agents/hopeful").status_code == 200, "the API knows it")
    assert platform.end("hopeful")["payload"]["result"] == "without"
    until(lambda: condition(platform, "hopeful").get("reason") == "ConnectorMissing", "a condition says so")
    refused = platform.post("api-made", "x", connectors=["never-made"])
    assert (refused.status_code, refused.json()["code"]) == (400, "unknown_connector")
    assert "never-made" in refused.json()["error"]


def test_the_page_about_connectors_works_as_it_stands(laptop: Laptop, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    server, first, offline, last = (block.replace("9000", port) for block in blocks("connectors.md", laptop.url))
    (tmp_path / "sums.py").write_text(server)
    with subprocess.Popen([sys.executable, "sums.py"], cwd=tmp_path, stderr=subprocess.DEVNULL) as own:
        try:
            until(lambda: is_open(int(port)), "the page's server")
            told = shell(first)
            assert '"tools":[{"name":"add","description":"Add two numbers."}]' in told
            api = first.partition("\n")[0]
            shell(f"{api}\n{offline}")
            assert "20 + 22 = 42" in laptop.event("player", "tool_result")["payload"]["output"]
            laptop.end("player")
            assert '"agentNames":["reckoner"]' in shell(f"{api}\n{last}")
        finally:
            own.terminate()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_refuses_from_the_start_is_seen_and_the_task_runs(platform: Platform, server: McpServer) -> None:
    make(platform, "locked", server.url, token="a-wrong-token-0123")
    platform.assign("outside", script(add("locked"), {"say": "alone"}), connectors=["locked"])
    assert platform.end("outside")["payload"]["result"] == "alone"
    assert platform.event("outside", "tool_result")["payload"]["is_error"]
    health = platform.http.get("/connectors/locked").json()["health"]
    assert (health["state"], health["code"]) == ("failed", "mcp_unauthorized")
