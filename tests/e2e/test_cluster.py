"""What only a cluster has: the chart's objects, more than one replica, an upgrade, an API server that is away."""

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from komputer.client import ApiError, Client
from tests.e2e.cluster import NAMESPACE, Cluster
from tests.e2e.platform import END_TYPES, Json, check_log, script, until
from tests.fixtures.mcp_generations import HEADER, TOKEN
from tests.fixtures.mcp_servers import McpServer


def work(seconds: int) -> str:
    """A task that does something every second, and writes down that it has."""
    steps = [{"tool": "Bash", "input": {"command": f"echo {n} >> trace.txt; sleep 1"}} for n in range(seconds)]
    return script(*steps, {"say": "After."})


@contextmanager
def following(cluster: Cluster, name: str) -> Iterator[list[Json]]:
    """What a client gets that comes back with its cursor whenever it is cut off; complete when the block is left."""
    got: list[Json] = []

    def follow() -> None:
        with Client(cluster.url, token=cluster.token) as client:
            while not (got and got[-1]["type"] in END_TYPES):
                try:
                    for event in client.follow(name, got[-1]["id"] if got else "0-0"):
                        got.append(event)
                        if event["type"] in END_TYPES:
                            return
                except ApiError:
                    time.sleep(0.1)

    thread = threading.Thread(target=follow)
    thread.start()
    yield got
    thread.join(120)
    assert not thread.is_alive()


def finished(cluster: Cluster, name: str, got: list[Json]) -> None:
    """The task ended once with its result, its follower got every event once, each of its steps was taken once."""
    end = cluster.end(name, within_s=120)
    assert end["payload"].get("result") == "After.", end
    events = cluster.events(name)
    assert got == events
    check_log(events)
    assert [event["type"] for event in events].count("task_started") == 1
    cluster.settled(name, lastTaskOutcome="completed")
    folder = cluster.workspace(name)
    assert folder
    lines = (folder / "trace.txt").read_text().split()
    assert lines == [str(n) for n in range(len(lines))]


def pod_names(cluster: Cluster, component: str) -> list[str]:
    label = f"app.kubernetes.io/component={component}"
    return cluster.kubectl("-n", NAMESPACE, "get", "pods", "-l", label, "-o", "name").split()


def test_an_agents_pod_is_restricted_and_mounts_nothing_but_its_own_token(cluster: Cluster) -> None:
    cluster.assign("plain", script({"say": "Hello."}))
    cluster.end("plain")
    pod: Any = cluster.kubernetes("GET", "/api/v1/namespaces/default/pods/plain-pod")
    volumes = pod["spec"]["volumes"]
    projected = [source for volume in volumes for source in volume.get("projected", {}).get("sources", ())]
    assert [source["serviceAccountToken"]["audience"] for source in projected] == ["komputer-gateway"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not any("secret" in volume for volume in volumes)
    assert not any("valueFrom" in entry for entry in pod["spec"]["containers"][0]["env"])
    for namespace in ("default", NAMESPACE):
        found: Any = cluster.kubernetes("GET", f"/api/v1/namespaces/{namespace}")
        assert found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted", "so nothing else runs"


def test_figures_are_on_a_port_that_no_service_and_no_policy_opens(cluster: Cluster) -> None:
    for part, figure in (("api", "komputer_agents_active"), ("gateway", "_requests_total"), ("operator", "_leading")):
        selected = f"app.kubernetes.io/part-of=komputer,app.kubernetes.io/component={part}"
        pods = json.loads(cluster.kubectl("get", "pods", "-n", NAMESPACE, "-l", selected, "-o", "json"))["items"]
        address = pods[0]["status"]["podIP"]
        (ports,) = [container["ports"] for container in pods[0]["spec"]["containers"]]
        usual = next(port["containerPort"] for port in ports if port["name"] == "http")
        assert figure in httpx.get(f"http://{address}:9090/metrics", trust_env=False).text
        assert httpx.get(f"http://{address}:{usual}/metrics", trust_env=False).status_code == 404


def test_what_kubectl_shows_of_agents(cluster: Cluster) -> None:
    cluster.assign("shown", script({"say": "Look at me."}))
    cluster.settled("shown", lastTaskOutcome="completed")
    until(lambda: "Complete" in cluster.kubectl("get", "komputeragents", "shown"), "the status is there")
    header = cluster.kubectl("get", "komputeragents").split("\n")[0]
    assert header.split() == ["NAME", "PHASE", "TASK", "MODEL", "COST", "AGE"]
    wide = cluster.kubectl("get", "komputeragents", "shown", "-o", "wide")
    assert "Look at me." in wide
    assert "shown-pod" in wide
    explained = cluster.kubectl("explain", "komputeragent.spec.connectors")
    assert "connectors <[]string>" in explained
    assert "DESCRIPTION:\n    <empty>" not in explained
    told = cluster.kubectl("get", "events", "--field-selector", "involvedObject.name=shown", "-o", "json")
    assert any(event["reason"] == "PodRunning" for event in json.loads(told)["items"]), told


def test_each_namespace_with_agents_has_a_policy_that_lets_them_reach_the_gateway_only(cluster: Cluster) -> None:
    cluster.assign("fenced", script({"say": "Hello."}), namespace="policed")
    path = "/apis/networking.k8s.io/v1/namespaces/policed/networkpolicies/komputer-agent"
    policy: Any = until(lambda: cluster.kubernetes("GET", path), "the policy")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy["spec"]
    dns, gateway = policy["spec"]["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert gateway["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert gateway["ports"] == [{"port": 8081, "protocol": "TCP"}]


def test_an_upgrade_rolls_every_part_in_mid_task_and_nothing_is_lost_or_told_twice(cluster: Cluster) -> None:
    before = {part: set(pod_names(cluster, part)) for part in ("api", "gateway", "operator")}
    cluster.assign("upgraded", work(25))
    with following(cluster, "upgraded") as got:
        cluster.event("upgraded", "tool_call")
        uid = cluster.manifest("upgraded")["status"]["podName"], pod_uid(cluster, "upgraded")
        stamp = f"stamp={time.time()}"
        parts = [option for part in before for option in ("--set-string", f"{part}.podAnnotations.{stamp}")]
        cluster.upgrade(*parts)
        until(
            lambda: not any(set(pod_names(cluster, part)) & names for part, names in before.items()), "all are replaced"
        )
    finished(cluster, "upgraded", got)
    assert (cluster.manifest("upgraded")["status"]["podName"], pod_uid(cluster, "upgraded")) == uid
    assert not any(event["type"] == "task_resumed" for event in got), "the agent worked on"


@pytest.mark.slow
def test_a_redis_of_ones_own_behind_tls_and_a_password(cluster: Cluster, tmp_path: Path) -> None:
    with own_redis(cluster, tmp_path, "of-ones-own") as port:
        cluster.kubectl(
            "-n", NAMESPACE, "create", "secret", "generic", "own-redis", "--from-literal=password=of-ones-own"
        )
        cluster.kubectl("-n", NAMESPACE, "create", "configmap", "own-redis", f"--from-file=ca.crt={tmp_path}/cert.pem")
        where = f"redis.url=rediss://{cluster.ip}:{port}/3,redis.existingSecret=own-redis,redis.caConfigMap=own-redis"
        try:
            cluster.upgrade("--set", where)
            cluster.ready()
            cluster.assign(
                "stranger", script({"tool": "Bash", "input": {"command": "echo here"}}, {"say": "Elsewhere."})
            )
            assert cluster.end("stranger")["payload"]["result"] == "Elsewhere."
            cluster.settled("stranger", lastTaskOutcome="completed")
            check_log(cluster.events("stranger"))
            assert not cluster.kubectl(
                "-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/component=valkey", "-o", "name"
            )
            assert cluster.http.delete("/agents/stranger").status_code == 200
        finally:
            cluster.upgrade()
            cluster.ready()


@contextmanager
def own_redis(cluster: Cluster, folder: Path, password: str) -> Iterator[int]:
    """Its port on the node; it takes TLS only."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed")
    certificate = ["-subj", "/CN=redis", "-addext", f"subjectAltName=IP:{cluster.ip}", "-days", "2", "-nodes"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *certificate, *files], check=True, capture_output=True
    )
    with socket.create_server((cluster.ip, 0)) as probe:
        port = int(probe.getsockname()[1])
    tls = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    tls += ["--tls-cert-file", str(folder / "cert.pem"), "--tls-key-file", str(folder / "key.pem")]
    settings = [
        "--bind",
        cluster.ip,
        "--port",
        "0",
        "--dir",
        str(folder),
        "--appendonly",
        "yes",
        "--requirepass",
        password,
    ]
    with subprocess.Popen([server, *settings, *tls], stdout=subprocess.DEVNULL) as process:
        yield port
        process.kill()


def pod_uid(cluster: Cluster, agent: str) -> str:
    found: Any = cluster.kubernetes("GET", f"/api/v1/namespaces/default/pods/{agent}-pod")
    return str(found["metadata"]["uid"])


def test_one_replica_of_api_and_gateway_is_killed_in_mid_stream(cluster: Cluster) -> None:
    cluster.assign("halved", work(12))
    with following(cluster, "halved") as got:
        for part in ("gateway", "api"):
            seen = len(got)
            until(lambda seen=seen: len(got) > seen + 1, "it goes on")  # type: ignore[misc]
            cluster.part_processes(part)[0].kill()
    finished(cluster, "halved", got)


@pytest.mark.slow
def test_a_gateway_that_is_told_to_stop_lets_a_long_tool_call_end(cluster: Cluster, tmp_path: Path) -> None:
    with McpServer(tmp_path, HEADER, host=cluster.ip) as server:
        made = {"name": "slow", "service": "custom", "url": server.url, "token": TOKEN}
        assert cluster.http.post("/connectors", json=made).status_code == 201
        call = {"tool": "mcp__slow__slow", "input": {"seconds": 10}}
        cluster.assign("caller", script(call, {"say": "After."}), connectors=["slow"])
        until(lambda: "slow began" in server.said, "the call is there")
        for process in cluster.part_processes("gateway"):
            process.send_signal(signal.SIGTERM)
        result = cluster.event("caller", "tool_result")["payload"]
        assert "slept well" in result["output"], result
        assert cluster.end("caller")["payload"]["result"] == "After."
        cluster.ready()
        cluster.assign("caller", script(call, {"say": "Later."}))
        until(lambda: server.said.count("slow began") == 2, "the second call is there")
        for process in cluster.part_processes("gateway"):
            process.kill()
        result = cluster.event("caller", "tool_result", 2, within_s=90)["payload"]
        assert result["is_error"], "a clear error, and not a second call"
        assert cluster.end("caller", 2, within_s=90)["payload"]["result"] == "Later."
        assert server.said.count("slow began") == 2
    check_log(cluster.events("caller"))


def holder(cluster: Cluster) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/komputer-operator"
    lease: Any = cluster.kubernetes("GET", path)
    return str(lease["spec"]["holderIdentity"])


@pytest.mark.slow
def test_another_operator_takes_over_when_the_leader_hangs(cluster: Cluster) -> None:
    cluster.ready()
    led = holder(cluster)
    (leader,) = (each for each in cluster.part_processes("operator") if led.startswith(hostname(each)))
    cluster.assign("led", work(3))
    cluster.event("led", "tool_call")
    leader.send_signal(signal.SIGSTOP)  # as a node that hangs: it gives nothing back
    stopped = time.monotonic()
    try:
        until(lambda: holder(cluster) != led, "another leads", 40)
        took_s = time.monotonic() - stopped
        cluster.assign("led-on", script({"say": "After."}))
        assert cluster.end("led-on")["payload"]["result"] == "After."
        cluster.settled("led", lastTaskOutcome="completed")
    finally:
        leader.send_signal(signal.SIGCONT)
    until(lambda: not leader.is_running(), "who has lost the lease ends", 30)
    assert took_s < 25, took_s
    print(f"another operator led after {took_s:.1f} s")


def hostname(process: Any) -> str:
    return str(process.environ().get("HOSTNAME", "none"))


@pytest.mark.slow
def test_an_agents_name_is_used_again_also_where_the_garbage_collector_stands_still(cluster: Cluster) -> None:
    """Its old pod ends, its old disk goes, nobody waits for anybody else."""

    def play(n: int) -> None:
        cluster.assign("phoenix", script({"tool": "Bash", "input": {"command": f"ls; touch {n}"}}, {"say": str(n)}))

    play(0)
    assert cluster.end("phoenix")["payload"]["result"] == "0"
    with cluster.paused("kube-controller-manager"):
        assert cluster.http.delete("/agents/phoenix").status_code == 200
        play(1)
        names = {"configmap": "phoenix-config", "persistentvolumeclaim": "phoenix-pvc", "pod": "phoenix-pod"}
        paths = [f"/api/v1/namespaces/default/{kind}s/{name}" for kind, name in names.items()]
        uid = cluster.manifest("phoenix")["metadata"]["uid"]
        until(lambda: all(is_leaving_or_of(cluster.kubernetes("GET", path), uid) for path in paths), "the old is taken")
    assert cluster.end("phoenix", within_s=90)["payload"]["result"] == "1"
    assert "0" not in cluster.event("phoenix", "tool_result")["payload"]["output"], "nothing of the earlier disk"
    assert cluster.http.delete("/agents/phoenix").status_code == 200


def is_leaving_or_of(found: Json | None, uid: str) -> bool:
    if found is None or "deletionTimestamp" in found["metadata"]:
        return True
    return bool(found["metadata"]["ownerReferences"][0]["uid"] == uid)


@pytest.mark.slow
def test_what_stands_in_an_agents_place_is_told_and_left_alone(cluster: Cluster) -> None:
    """An object of the right name that somebody else has made."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    security: Json = {"runAsNonRoot": True, "runAsUser": 1000, "allowPrivilegeEscalation": False}
    security |= {"capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {"name": "own", "image": "none.invalid/own", "securityContext": security}
    for kind, name, more in (
        ("ConfigMap", "config", {"data": {"mine": "yes"}}),
        ("PersistentVolumeClaim", "pvc", {"spec": claim}),
        ("Pod", "pod", {"spec": {"containers": [container]}}),
    ):
        agent, metadata = f"squat-{name}", {"name": f"squat-{name}-{name}", "namespace": "default"}
        cluster.kubectl(
            "create", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": kind, "metadata": metadata} | more)
        )
        cluster.assign(agent, script({"say": "Never."}))
        ready = until(partial(reason, cluster, agent, "ChildNotOurs"), "a condition says so")
        assert f"{kind} {metadata['name']} exists and is not controlled by this agent" in ready["message"]
        assert cluster.http.delete(f"/agents/{agent}").status_code == 200
        cluster.kubectl("delete", kind.lower(), str(metadata["name"]), "--grace-period=1", "--wait=false")


def reason(cluster: Cluster, agent: str, wanted: str) -> Json | None:
    conditions = cluster.agent(agent).get("conditions", ())
    return next((each for each in conditions if each["type"] == "Ready" and each.get("reason") == wanted), None)


def test_the_doctor_finds_nothing_wrong_and_says_what_this_node_cannot_do(cluster: Cluster) -> None:
    cluster.ready()
    cluster.assign("fenced", script({"say": "Hello."}))
    cluster.end("fenced")
    done = cluster.cli("doctor", "--kubeconfig", str(cluster.kubeconfig), "--json")
    found = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0, found
    states = {check: each["state"] for check, each in found.items()}
    assert states.pop("network policy") == "warning", "the node of the tests has no policy engine"
    assert set(states.values()) == {"ok"}, found
    assert len(states) == 10


@pytest.mark.slow
def test_the_api_server_is_away_for_half_a_minute(cluster: Cluster) -> None:
    """Caches recover, no event is missed, no pod is made twice."""
    cluster.ready()
    cluster.assign("patient", work(20))
    cluster.assign("idle", script({"say": "First."}))
    cluster.end("idle")
    with following(cluster, "patient") as got:
        cluster.event("patient", "tool_call", 2)
        uids = pod_uid(cluster, "patient"), pod_uid(cluster, "idle")
        for n in range(20):  # on connections of their own, so that each replica knows that we may
            with cluster.connected() as http:
                assert http.get("/agents/idle").status_code == 200
                assert http.patch("/agents/idle", json={"labels": {"warm": str(n)}}).status_code == 200
        with cluster.without_apiserver():
            time.sleep(30)
            assert cluster.http.get("/agents/idle").status_code == 200, "reads are served from what is known"
            refused = cluster.http.patch("/agents/idle", json={"labels": {"cold": "yes"}})
            assert (refused.status_code, "retry-after" in refused.headers) == (503, True), refused.text
    finished(cluster, "patient", got)
    until(lambda: posted(cluster, "idle") in (200, 201), "writes go on", 30)
    assert cluster.end("idle", 2)["payload"]["result"] == "Second."
    assert (pod_uid(cluster, "patient"), pod_uid(cluster, "idle")) == uids
    cluster.ready()


def posted(cluster: Cluster, name: str) -> int:
    try:
        return cluster.post(name, script({"say": "Second."})).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.slow
def test_watches_that_are_answered_with_410_are_begun_anew(cluster: Cluster) -> None:
    """An API server that has just started knows no history; who slept meanwhile asks for some."""
    cluster.ready()
    for name in ("stays", "goes"):
        cluster.assign(name, script({"say": "Hello."}))
        cluster.end(name)
    sleepers = [process for part in ("api", "gateway") for process in cluster.part_processes(part)]
    try:
        with cluster.without_apiserver():
            for process in sleepers:
                process.send_signal(signal.SIGSTOP)
        cluster.kubectl("patch", "komputeragent", "stays", "--type=merge", "-p", '{"spec": {"priority": 7}}')
        cluster.kubectl("delete", "komputeragent", "goes", "--wait=false")
    finally:
        for process in sleepers:
            process.send_signal(signal.SIGCONT)
    cluster.ready()
    until(
        lambda: all(get(cluster, "stays").get("priority") == 7 for _ in range(10)),
        "both have caught up",
    )
    until(lambda: all("error" in get(cluster, "goes") for _ in range(10)), "what was missed is told")

    def agents_known(part: str) -> list[dict[str, float]]:
        """For each replica of `part`, how many agents its cache holds and for how long it has not watched them."""
        selected = ("-l", f"app.kubernetes.io/component={part}", "-o", "json")
        pods = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "pods", *selected))["items"]
        texts = [httpx.get(f"http://{pod['status']['podIP']}:9090/metrics", trust_env=False).text for pod in pods]
        names = ("objects", "stale_seconds")
        series = {name: f'komputer_{part}_watch_{name}{{kind="komputeragents"}} ' for name in names}
        return [
            {name: float(text.partition(prefix)[2].partition("\n")[0]) for name, prefix in series.items()}
            for text in texts
        ]

    there = float(len(json.loads(cluster.kubectl("get", "komputeragents", "-A", "-o", "json"))["items"]))
    caught_up = [{"objects": there, "stale_seconds": 0.0}] * 2
    until(lambda: agents_known("api") == caught_up, "both replicas of the API watch again", 120)
    until(lambda: agents_known("gateway") == caught_up, "both replicas of the gateway watch again", 120)
    cluster.assign("stays", script({"say": "On."}))
    assert cluster.end("stays", 2)["payload"]["result"] == "On."


def get(cluster: Cluster, name: str) -> Json:
    try:
        with cluster.connected() as http:
            return dict(http.get(f"/agents/{name}").json())
    except httpx.TransportError:
        return {}


@pytest.fixture(scope="module", autouse=True)
def leaves_nothing(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.emptied()
