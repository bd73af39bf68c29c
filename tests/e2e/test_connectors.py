"""Connectors on one machine: agents that call the tools of a real MCP server through the gateway."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.laptop import Json, Laptop, script, until
from tests.e2e.pages import blocks, shell
from tests.fixtures.mcp_generations import HEADER, TOKEN, old_python
from tests.fixtures.mcp_servers import McpServer

__all__ = ["old_python"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpServer]:
    with McpServer(tmp_path_factory.mktemp("mcp"), HEADER) as running:
        yield running


def make(laptop: Laptop, name: str, url: str, **fields: object) -> Json:
    answer = laptop.http.post("/connectors", json={"name": name, "service": "custom", "url": url, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def add(connector: str, a: int = 1, b: int = 2) -> Json:
    return {"tool": f"mcp__{connector}__add", "input": {"a": a, "b": b}}


def test_an_agent_calls_a_tool_of_a_connector_and_gets_its_answer(laptop: Laptop, server: McpServer) -> None:
    made = make(laptop, "adder", server.url, token=TOKEN)
    assert TOKEN not in str(made)
    laptop.assign("caller", script(add("adder", 20, 22), {"say": "done"}), connectors=["adder"])
    end = laptop.end("caller")
    result = laptop.event("caller", "tool_result")["payload"]
    assert result["tool"] == "mcp__adder__add"
    assert "sum=42" in result["output"]
    assert result["is_error"] is False
    assert end["type"] == "task_completed"
    assert {request["status"] for request in server.seen} == {200}, "the header was there at every request"


@pytest.mark.parametrize("form", ["stream", "json"])
def test_a_server_of_the_older_generation_with_sessions_is_used_too(
    laptop: Laptop, tmp_path: Path, old_python: str, form: str
) -> None:
    name = f"old-{form}"
    with McpServer(tmp_path, HEADER, form, python=old_python) as server:
        make(laptop, name, server.url, token=TOKEN)
        laptop.assign(f"uses-{name}", script(add(name, 20, 22), {"say": "done"}), connectors=[name])
        laptop.end(f"uses-{name}")
        assert "sum=42" in laptop.event(f"uses-{name}", "tool_result")["payload"]["output"]
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


def test_an_agent_that_looks_everywhere_finds_no_token(laptop: Laptop, server: McpServer) -> None:
    make(laptop, "private", server.url, token=TOKEN)
    steps = [add("private"), {"tool": "Bash", "input": {"command": search(TOKEN)}}, {"say": "done"}]
    laptop.assign("snoop", script(*steps), connectors=["private"])
    assert laptop.end("snoop")["type"] == "task_completed"
    assert "sum=3" in laptop.event("snoop", "tool_result")["payload"]["output"]
    found = laptop.event("snoop", "tool_result", 2)["payload"]["output"]
    assert "searched" in found
    assert TOKEN not in found
    assert TOKEN not in json.dumps(laptop.events("snoop"))
    assert TOKEN not in laptop.http.get("/connectors").text + laptop.http.get("/connectors/private").text
    for file in (laptop.data_dir / "logs").rglob("*.log"):
        assert TOKEN not in file.read_text(errors="replace"), file


def waiting(nth: int = 1) -> Json:
    """A step that goes on when `go_on` says so."""
    return {"tool": "Bash", "input": {"command": f"until [ -e go-{nth} ]; do sleep 0.05; done"}}


def go_on(laptop: Laptop, agent: str, nth: int = 1) -> None:
    (folder,) = (path for path in (laptop.data_dir / "volumes").glob(f"*{agent}-pvc*") if path.is_dir())
    (folder / f"go-{nth}").touch()


def pod_uid(laptop: Laptop, agent: str) -> str:
    found = laptop.kubernetes("GET", f"/api/v1/namespaces/default/pods/{agent}-pod")
    assert found is not None
    return str(found["metadata"]["uid"])


def patch(laptop: Laptop, agent: str, connectors: list[str]) -> None:
    answer = laptop.http.patch(f"/agents/{agent}", json={"connectors": connectors})
    assert answer.status_code == 200, answer.text


def test_detaching_acts_on_the_running_task_and_attaching_on_the_next(laptop: Laptop, server: McpServer) -> None:
    make(laptop, "old", server.url, token=TOKEN)
    make(laptop, "new", server.url, token=TOKEN)
    laptop.assign("changing", script(add("old"), waiting(), add("old"), add("new"), {"say": "one"}), connectors=["old"])
    laptop.event("changing", "tool_call", 2)
    pod = pod_uid(laptop, "changing")
    patch(laptop, "changing", ["new"])
    go_on(laptop, "changing")
    laptop.end("changing")
    first, detached, not_yet = (laptop.event("changing", "tool_result", n)["payload"] for n in (1, 3, 4))
    assert "sum=3" in first["output"]
    assert detached["is_error"]
    assert "not attached" in detached["output"]
    assert not_yet["is_error"]
    laptop.assign("changing", script(add("new"), add("old"), {"say": "two"}))
    laptop.end("changing", 2)
    attached, gone = (laptop.event("changing", "tool_result", n)["payload"] for n in (5, 6))
    assert "sum=3" in attached["output"]
    assert gone["is_error"]
    assert pod_uid(laptop, "changing") == pod, "the pod is the same"
    patch(laptop, "changing", [])
    assert "connectors" not in laptop.agent("changing")


def condition(laptop: Laptop, agent: str) -> Json:
    found = laptop.agent(agent).get("conditions", [])
    return next((each for each in found if each["type"] == "ConnectorsFound"), {})


def test_deleting_a_connector_names_its_agents_whose_next_task_runs_without(laptop: Laptop, server: McpServer) -> None:
    made = make(laptop, "brief", server.url, token=TOKEN)
    laptop.assign("loser", script(add("brief"), {"say": "one"}), connectors=["brief"])
    laptop.end("loser")
    listed = laptop.http.get("/connectors").json()["connectors"]
    (mine,) = (each for each in listed if each["name"] == "brief")
    assert (mine["attachedAgents"], mine["agentNames"]) == (1, ["loser"])
    assert mine["health"]["state"] == "ok"
    resource = "/apis/komputer.komputer.ai/v1alpha1/namespaces/default/komputerconnectors/brief"

    def counted() -> bool:
        status = (laptop.kubernetes("GET", resource) or {}).get("status", {})
        return bool(status.get("agentNames") == ["loser"] and status.get("attachedAgents") == 1)

    until(counted, "kubectl shows the count")
    until(lambda: condition(laptop, "loser").get("status") == "True", "the connector is found")
    answer = laptop.http.delete("/connectors/brief")
    assert answer.status_code == 200
    assert answer.json() == {"status": "deleted", "name": "brief", "agentNames": ["loser"]}
    until(lambda: condition(laptop, "loser").get("reason") == "ConnectorMissing", "a condition says so")
    assert "'brief'" in condition(laptop, "loser")["message"]
    laptop.assign("loser", script(add("brief"), {"say": "two"}))
    assert laptop.end("loser", 2)["type"] == "task_completed"
    assert laptop.event("loser", "tool_result", 2)["payload"]["is_error"]
    path = f"/api/v1/namespaces/default/secrets/{made['authSecretName']}"
    until(lambda: laptop.kubernetes("GET", path, status=404), "the Secret went with it")
    make(laptop, "brief", server.url, token=TOKEN)
    until(lambda: condition(laptop, "loser").get("status") == "True", "it is there again")
    laptop.http.patch("/connectors/brief", json={"disabled": True})
    until(lambda: condition(laptop, "loser").get("reason") == "ConnectorDisabled", "disabled is told too")


def test_a_refused_token_is_told_to_the_agent_and_shown_until_it_is_replaced(laptop: Laptop, tmp_path: Path) -> None:
    with McpServer(tmp_path, HEADER) as server:
        make(laptop, "expiring", server.url, token=TOKEN)
        laptop.assign(
            "expired",
            script(add("expiring"), waiting(), add("expiring"), waiting(2), add("expiring"), {"say": "one"}),
            connectors=["expiring"],
        )
        laptop.event("expired", "tool_call", 2)
        server.lets_in("authorization: Bearer another-token-0123")
        go_on(laptop, "expired")
        refused = laptop.event("expired", "tool_result", 3)["payload"]
        assert refused["is_error"]
        assert "does not accept the connector's credential (401)" in refused["output"]
        health = laptop.http.get("/connectors/expiring").json()["health"]
        assert (health["state"], health["code"]) == ("failed", "mcp_unauthorized")
        tools = laptop.http.get("/connectors/expiring/tools")
        assert (tools.status_code, tools.json()["code"]) == (502, "mcp_unauthorized")
        changed = laptop.http.patch("/connectors/expiring", json={"token": "another-token-0123"})
        assert changed.status_code == 200
        assert changed.json()["health"] == {"state": "unknown"}
        time.sleep(2.1)  # the gateway keeps a Secret for two seconds
        go_on(laptop, "expired", 2)
        laptop.end("expired")
        assert "sum=3" in laptop.event("expired", "tool_result", 5)["payload"]["output"]
        tools = laptop.http.get("/connectors/expiring/tools").json()["tools"]
        assert {"name": "add", "description": "Add two numbers."} in tools
        assert laptop.http.get("/connectors/expiring").json()["health"]["state"] == "ok"


def test_no_connector_leads_to_the_platform_itself(laptop: Laptop) -> None:
    kubernetes = laptop.kubernetes_url()
    for url in (kubernetes, laptop.url, kubernetes.replace("127.0.0.1", "127.0.0.2")):
        body = {"name": "inward", "service": "custom", "url": url, "token": TOKEN}
        answer = laptop.http.post("/connectors", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "address-not-allowed")
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


def test_a_long_call_is_waited_for_and_a_cancelled_one_reaches_the_server(laptop: Laptop, server: McpServer) -> None:
    make(laptop, "patient", server.url, token=TOKEN)
    slow = {"tool": "mcp__patient__slow", "input": {"seconds": 3}}
    laptop.assign("patient", script(slow, {"say": "one"}), connectors=["patient"])
    laptop.end("patient")
    assert "slept well" in laptop.event("patient", "tool_result")["payload"]["output"]
    laptop.assign("patient", script({"tool": "mcp__patient__slow", "input": {"seconds": 600}}, {"say": "two"}))
    until(lambda: server.said.count("slow began") == 2, "the second call is there")
    assert laptop.http.post("/agents/patient/cancel").status_code == 200
    assert laptop.end("patient", 2)["type"] == "task_cancelled"
    until(lambda: "slow cancelled" in server.said, "the server was told")


def test_a_server_that_hangs_delays_the_first_turn_by_seconds_only(laptop: Laptop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        make(laptop, "mute", f"http://127.0.0.1:{mute.getsockname()[1]}/mcp")
        began = time.monotonic()
        laptop.assign("impatient", script({"say": "on time"}), connectors=["mute"])
        assert laptop.end("impatient")["payload"]["result"] == "on time"
        assert time.monotonic() - began < 25


def test_a_connector_that_never_existed_in_a_manifest_is_a_condition_and_the_task_runs(laptop: Laptop) -> None:
    manifest = {
        "apiVersion": "komputer.komputer.ai/v1alpha1",
        "kind": "KomputerAgent",
        "metadata": {"name": "hopeful", "namespace": "default"},
        "spec": {"instructions": script({"say": "without"}), "connectors": ["never-made"]},
    }
    path = "/apis/komputer.komputer.ai/v1alpha1/namespaces/default/komputeragents"
    assert laptop.kubernetes("POST", path, manifest, status=201)
    until(lambda: laptop.http.get("/agents/hopeful").status_code == 200, "the API knows it")
    assert laptop.end("hopeful")["payload"]["result"] == "without"
    until(lambda: condition(laptop, "hopeful").get("reason") == "ConnectorMissing", "a condition says so")
    refused = laptop.post("api-made", "x", connectors=["never-made"])
    assert (refused.status_code, refused.json()["code"]) == (400, "unknown-connector")
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


def test_a_server_that_refuses_from_the_start_is_seen_and_the_task_runs(laptop: Laptop, server: McpServer) -> None:
    make(laptop, "locked", server.url, token="a-wrong-token-0123")
    laptop.assign("outside", script(add("locked"), {"say": "alone"}), connectors=["locked"])
    assert laptop.end("outside")["payload"]["result"] == "alone"
    assert laptop.event("outside", "tool_result")["payload"]["is_error"]
    health = laptop.http.get("/connectors/locked").json()["health"]
    assert (health["state"], health["code"]) == ("failed", "mcp_unauthorized")
