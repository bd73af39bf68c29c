"""Who may do what: over every route and stream, callers see of other people's namespaces nothing at all.

The local API server knows one administrator and no roles: what needs RBAC runs against a real one (`--kubeconfig`).
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any
from uuid import uuid4

import aiohttp
import httpx
import pytest
import structlog

from komputer import api
from komputer.api.rights import NEEDS
from komputer.domain.errors import Conflict
from komputer.events.log import Log
from komputer.kube import AGENTS, CONNECTORS, NAMESPACES, SECRETS, SERVICE_ACCOUNTS, Cluster, Kind
from tests.contract.api.conftest import LOOPBACK
from tests.contract.gateway.serving import serving
from tests.contract.gateway.world import World
from tests.openapi import checked
from tests.waiting import eventually

AUDIENCE = "komputer-api"
RBAC = "rbac.authorization.k8s.io"
CLUSTER_ROLES = Kind(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_BINDINGS = Kind(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
BINDINGS = Kind(RBAC, "v1", "rolebindings", "RoleBinding")
OURS = "komputer.komputer.ai"
ROLES: dict[str, list[dict[str, Any]]] = {
    "view": [
        {"apiGroups": [OURS], "resources": ["komputeragents", "komputerconnectors"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [OURS], "resources": ["komputeragenttemplates"], "verbs": ["list"]},
        {"apiGroups": [OURS], "resources": ["komputeragents/events"], "verbs": ["get", "watch"]},
    ],
    "edit": [
        {"apiGroups": [OURS], "resources": ["komputeragents", "komputerconnectors"], "verbs": ["*"]},
        {"apiGroups": [OURS], "resources": ["komputeragents/events", "komputeragents/cancel"], "verbs": ["*"]},
        {"apiGroups": [OURS], "resources": ["komputeragenttemplates"], "verbs": ["list"]},
    ],
    "keys": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}],
    "rooms": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"]}],
}


@dataclass
class People:
    """`ann` edits `here`, `vic` views it, `kay` edits it and its Secrets; `ben` edits `there`; `zoe` does nothing;
    `cat` and `dan` edit everywhere, and `dan` may create namespaces."""

    here: str
    there: str
    url: str
    tokens: dict[str, str]

    def client(self, who: str | None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.tokens.get(who, who)}"} if who else {}
        return httpx.AsyncClient(
            base_url=f"{self.url}/api/v1", headers=headers, timeout=30, event_hooks={"response": [checked]}
        )


@pytest.fixture
def has_rbac(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("kubeconfig") is None:
        pytest.skip("wants RBAC: make test-kubernetes")


@pytest.fixture
async def people(cluster: Cluster, log: Log, world: World, request: pytest.FixtureRequest) -> AsyncIterator[People]:
    here, there = world.namespace, f"other-{uuid4().hex[:8]}"
    is_real = request.config.getoption("kubeconfig") is not None
    await cluster.create(NAMESPACES, {"metadata": {"name": there}})
    if is_real:
        for role, rules in ROLES.items():
            with contextlib.suppress(Conflict):
                await cluster.create(CLUSTER_ROLES, {"metadata": {"name": f"access-{role}"}, "rules": rules})
    roles: dict[str, list[tuple[str, str | None]]] = {
        "ann": [("edit", here)],
        "vic": [("view", here)],
        "ben": [("edit", there)],
        "zoe": [],
    }
    roles["kay"] = [("edit", here), ("keys", here)]
    roles |= {"cat": [("edit", None)], "dan": [("edit", None), ("rooms", None)]}
    everywhere: list[dict[str, Any]] = []
    tokens = {}
    for who, bound in roles.items():
        await cluster.create(SERVICE_ACCOUNTS, {"metadata": {"name": who, "namespace": here}})
        for role, namespace in bound if is_real else ():
            binding: dict[str, Any] = {
                "metadata": {"name": f"{who}-{role}", "namespace": namespace},
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": f"access-{role}"},
                "subjects": [{"kind": "ServiceAccount", "name": who, "namespace": here}],
            }
            if namespace is None:
                binding["metadata"] = {"name": f"{who}-{role}-{here}"}
                everywhere.append(await cluster.create(CLUSTER_BINDINGS, binding))
            else:
                await cluster.create(BINDINGS, binding)
        tokens[who] = (await cluster.create_token(who, here, AUDIENCE, 3600)).token
    settings = api.ApiSettings(
        default_namespace=here,
        addresses=LOOPBACK,
        auth="kubernetes",
        token_audiences=(AUDIENCE,),
        loopback_only=False,
        allowed_origins=("https://dashboard.example.com",),
        audits=True,
        makes_namespaces=True,
    )
    for namespace in (here, there):
        spec = {"instructions": "Say hello.", "model": "claude-sonnet-4-6"}
        await cluster.create(AGENTS, {"metadata": {"name": f"of-{namespace}", "namespace": namespace}, "spec": spec})
        await cluster.create(AGENTS, {"metadata": {"name": "twin", "namespace": namespace}, "spec": spec})
        connector = {"service": "custom", "type": "remote", "url": "https://mcp.example.com/mcp", "authType": "none"}
        await cluster.create(CONNECTORS, {"metadata": {"name": "tools", "namespace": namespace}, "spec": connector})
        labels = {"komputer.ai/managed-by": "komputer-ai"}
        secret = {"metadata": {"name": "keys", "namespace": namespace, "labels": labels}, "data": {"k": "dg=="}}
        await cluster.create(SECRETS, secret)
    async with serving(api.app(settings, cluster, log)) as url:
        found = People(here, there, url, tokens)

        async def is_ready() -> bool:
            async with found.client(None) as nobody:
                return (await nobody.get(f"{url}/readyz")).status_code == 200

        await eventually(is_ready)
        yield found
    for each in everywhere:
        await cluster.delete(CLUSTER_BINDINGS, each["metadata"]["name"])
    await cluster.delete(NAMESPACES, there)


Request = tuple[str, str, dict[str, Any] | None]


def requests(namespace: str) -> dict[str, Request]:
    """One of each operation, about something that is there."""
    agent, connector = f"/agents/of-{namespace}", "/connectors/tools"
    query = f"?namespace={namespace}"
    return {
        "create_agent": ("POST", "/agents", {"name": "new", "instructions": "x", "namespace": namespace}),
        "list_agents": ("GET", f"/agents{query}", None),
        "get_agent": ("GET", f"{agent}{query}", None),
        "patch_agent": ("PATCH", f"{agent}{query}", {"model": "claude-haiku-4-5"}),
        "cancel_agent_task": ("POST", f"{agent}/cancel{query}", None),
        "send_agent_message": ("POST", f"{agent}/messages{query}", {"content": "Hello?"}),
        "compact_agent": ("POST", f"{agent}/compact{query}", None),
        "get_agent_events": ("GET", f"{agent}/events{query}", None),
        "get_agent_cost_breakdown": ("GET", f"{agent}/cost{query}", None),
        "follow_agent": ("GET", f"{agent}/events/stream{query}", None),
        "follow_all": ("GET", f"/events/stream{query}", None),
        "create_connector": (
            "POST",
            "/connectors",
            {"name": "more", "service": "custom", "url": "https://mcp.example.com/mcp", "namespace": namespace},
        ),
        "list_connectors": ("GET", f"/connectors{query}", None),
        "get_connector": ("GET", f"{connector}{query}", None),
        "update_connector": ("PATCH", connector, {"disabled": True, "namespace": namespace}),
        "list_connector_tools": ("GET", f"{connector}/tools{query}", None),
        "create_secret": ("POST", "/secrets", {"name": "more", "data": {"a": "b"}, "namespace": namespace}),
        "list_secrets": ("GET", f"/secrets{query}", None),
        "update_secret": ("PATCH", f"/secrets/keys{query}", {"data": {"a": "b"}}),
        "list_templates": ("GET", f"/templates{query}", None),
        "delete_connector": ("DELETE", f"{connector}{query}", None),
        "delete_secret": ("DELETE", f"/secrets/keys{query}", None),
        "delete_agent": ("DELETE", f"{agent}{query}", None),
    }


FOR_EVERYBODY = {"list_connector_templates", "list_namespaces"}
"""About no namespace."""


async def status_of(client: httpx.AsyncClient, asked: Request) -> int:
    method, path, body = asked
    async with client.stream(method, path, json=body) as answer:
        if answer.status_code >= 400:
            await answer.aread()
            assert answer.json().keys() == {"error", "code"}
        return answer.status_code


async def test_every_operation_is_tried() -> None:
    assert requests("x").keys() == NEEDS.keys() - FOR_EVERYBODY - {"watch_agent"}


async def test_without_a_valid_token_every_operation_is_401(people: People) -> None:
    every = [*requests(people.here).values(), ("GET", "/connector-templates", None), ("GET", "/namespaces", None)]
    for who in (None, "garbage", "x" * 20_000):
        async with people.client(who) as nobody:
            assert {await status_of(nobody, asked) for asked in every} == {401}
    async with people.client(None) as nobody:
        refused = await nobody.get("/agents", headers={"Authorization": "Basic YTpi"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


async def test_figures_of_all_namespaces_are_not_where_callers_are(people: People) -> None:
    async with people.client("ann") as ann:
        assert (await ann.get(f"{people.url}/metrics")).status_code == 404


async def test_a_token_for_another_audience_is_none(people: People, cluster: Cluster) -> None:
    token = (await cluster.create_token("ann", people.here, "somebody-else", 3600)).token
    async with people.client(token) as ann:
        assert (await ann.get("/agents")).status_code == 401


async def test_who_has_no_right_gets_403_from_every_operation_and_sees_nothing(people: People) -> None:
    async with people.client("zoe") as zoe:
        for operation, asked in requests(people.here).items():
            assert await status_of(zoe, asked) == 403, operation
        assert (await zoe.get("/agents")).json()["agents"] == []
        assert (await zoe.get("/connectors")).json()["connectors"] == []
        assert (await zoe.get("/secrets")).json()["secrets"] == []
        assert (await zoe.get("/namespaces")).json()["namespaces"] == []
        assert (await zoe.get("/connector-templates")).status_code == 200


async def test_who_has_no_right_cannot_tell_what_there_is(people: People) -> None:
    async def told(client: httpx.AsyncClient, asked: Request) -> tuple[int, str]:
        method, path, body = asked
        answer = await client.request(method, path, json=body)
        return answer.status_code, answer.text

    objects = {f"of-{people.here}": "agents", "tools": "connectors", "keys": "secrets"}
    async with people.client("zoe") as zoe:
        for operation, (method, path, body) in requests(people.here).items():
            missing = path
            for name, plural in objects.items():
                missing = missing.replace(f"/{plural}/{name}", f"/{plural}/no-such-thing")
            assert await told(zoe, (method, path, body)) == await told(zoe, (method, missing, body)), operation
        new = {"instructions": "x", "namespace": people.here}
        answers = [await told(zoe, ("POST", "/agents", {"name": name, **new})) for name in ("twin", "no-such")]
        assert answers[0] == answers[1]
    headers = {"Authorization": f"Bearer {people.tokens['zoe']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for query in ("", f"?namespace={people.here}", f"?namespace={people.there}", "?namespace=no-such-namespace"):
            closed = []
            for name in ("twin", f"of-{people.here}", f"of-{people.there}", "no-such"):
                socket = await session.ws_connect(f"{people.url}/api/v1/agents/{name}/ws{query}")
                message = await socket.receive(20)
                closed.append((socket.close_code, message.extra))
            assert closed == [closed[0]] * 4, query
            assert closed[0][0] == 4403


async def test_a_secret_is_written_for_nobody_who_may_not_write_secrets(
    people: People, cluster: Cluster, has_rbac: None
) -> None:
    connector = {"name": "held", "service": "custom", "url": "https://mcp.example.com/mcp"}
    before = await everything(cluster, people.here)
    async with people.client("ann") as ann, people.client("kay") as kay:
        for body in ({"name": "new", "instructions": "x"}, {"name": "twin", "instructions": "x"}):
            refused = await ann.post("/agents", json=body | {"secrets": {"key": "value"}})
            assert refused.status_code == 403 or body["name"] == "twin", refused.text
            assert refused.status_code in (403, 409)
        assert "create secrets" in (await ann.post("/connectors", json=connector | {"token": "t"})).json()["error"]
        assert await everything(cluster, people.here) == before

        made = await kay.post("/agents", json={"name": "new", "instructions": "x", "secrets": {"key": "value"}})
        assert made.status_code == 201
        assert (await kay.post("/connectors", json=connector | {"token": "t"})).status_code == 201
        before = await everything(cluster, people.here)
        refused = await ann.patch("/connectors/held", json={"token": "other"})
        assert (refused.status_code, "update secrets" in refused.json()["error"]) == (403, True)
        refused = await ann.patch("/connectors/held", json={"token": "other", "url": "https://evil.example/mcp"})
        assert (refused.status_code, "create secrets" in refused.json()["error"]) == (403, True)
        assert await everything(cluster, people.here) == before
        assert (await kay.patch("/connectors/held", json={"token": "other"})).status_code == 200


async def test_a_namespace_is_made_for_nobody_who_may_not_create_namespaces(
    people: People, cluster: Cluster, has_rbac: None
) -> None:
    missing = f"made-{uuid4().hex[:8]}"
    agent = {"name": "new", "instructions": "x", "namespace": missing}
    connector = {"name": "new", "service": "custom", "url": "https://mcp.example.com/mcp", "namespace": missing}
    async with people.client("cat") as cat, people.client("dan") as dan:
        for path, body in (("/agents", agent), ("/connectors", connector)):
            refused = await cat.post(path, json=body)
            assert (refused.status_code, "create namespaces" in refused.json()["error"]) == (403, True), refused.text
        assert missing not in {each["metadata"]["name"] for each in (await cluster.list(NAMESPACES)).items}
        assert (await dan.post("/connectors", json=connector)).status_code == 201
        assert (await cat.post("/agents", json=agent)).status_code == 201, "now it is there"
    await cluster.delete(NAMESPACES, missing)


async def test_users_of_one_namespace_get_nothing_of_another(people: People, has_rbac: None) -> None:
    async with people.client("ann") as ann, people.client("ben") as ben:
        for operation, asked in requests(people.there).items():
            assert await status_of(ann, asked) == 403, operation
        listed = (await ann.get("/agents")).json()
        assert {agent["namespace"] for agent in listed["agents"]} == {people.here}
        assert (listed["total"], listed["facets"]["namespaces"]) == (2, [people.here])
        assert {each["namespace"] for each in (await ann.get("/connectors")).json()["connectors"]} == {people.here}
        assert (await ann.get("/namespaces")).json()["namespaces"] == [people.here]
        assert (await ben.get("/namespaces")).json()["namespaces"] == [people.there]
        assert (await ann.get("/secrets")).json()["secrets"] == [], "to edit agents is not to read Secrets"
        hidden = await ann.get(f"/agents/of-{people.there}")
        assert hidden.status_code == 404, "in her own namespace, which is the default"


async def test_who_names_two_namespaces_changes_nothing_where_they_may_not(
    people: People, cluster: Cluster, has_rbac: None
) -> None:
    before = await everything(cluster, people.there)
    queries = [f"namespace={a}&namespace={b}" for a, b in permutations((people.here, people.there))]
    async with people.client("kay") as kay:
        for method, path, body in requests(people.there).values():
            if method == "GET":
                continue
            for query in queries:
                for content in of_two_namespaces(body or {}, people.here, people.there):
                    headers = {"content-type": "application/json"}
                    url = f"{path.partition('?')[0]}?{query}"
                    answer = await kay.request(method, url, content=content, headers=headers)
                    assert answer.status_code != 429
        for query in queries:
            listed = (await kay.get(f"/agents?{query}")).json()
            assert people.there not in {agent["namespace"] for agent in listed.get("agents", [])}
    assert await everything(cluster, people.there) == before


def of_two_namespaces(body: dict[str, Any], mine: str, other: str) -> list[bytes]:
    """Bodies of which one might say that they name either."""
    found = []
    for first, last in ((mine, other), (other, mine)):
        twice = json.dumps({"namespace": first, **{k: v for k, v in body.items() if k != "namespace"}, "": last})
        found.append(json.dumps({**body, "namespace": last}).encode())
        found.append(json.dumps({**body, "namespace": last}).encode("utf-16"))
        found.append(json.dumps({**body, "namespace": last, "more": float("nan")}).encode())
        found.append(twice.replace('"": ', '"namespace": ').encode())
    return found


async def everything(cluster: Cluster, namespace: str) -> dict[tuple[str, str], Any]:
    """What somebody could have changed there."""
    return {
        (kind.kind, each["metadata"]["name"]): (each["metadata"]["uid"], each.get("spec"), each.get("data"))
        for kind in (AGENTS, CONNECTORS, SECRETS)
        for each in (await cluster.list(kind, namespace)).items
    }


async def test_who_views_changes_nothing_and_who_edits_may_do_everything(people: People, has_rbac: None) -> None:
    reads = {"list_agents", "get_agent", "get_agent_events", "get_agent_cost_breakdown", "follow_agent", "follow_all"}
    reads |= {"list_connectors", "get_connector", "list_templates"}
    asked = requests(people.here)
    async with people.client("vic") as vic:
        for operation, each in asked.items():
            if operation == "list_connector_tools":
                continue  # it calls the connector's server, which is not there
            assert await status_of(vic, each) == (200 if operation in reads else 403), operation
    async with people.client("kay") as kay:
        for operation, each in asked.items():
            if operation != "list_connector_tools":
                assert await status_of(kay, each) not in (401, 403), operation


async def test_an_agent_gets_only_what_its_maker_may_read(people: People, has_rbac: None) -> None:
    async with people.client("ann") as ann, people.client("kay") as kay:
        body = {"name": "greedy", "instructions": "x", "secretRefs": ["keys"]}
        refused = await ann.post("/agents", json=body)
        assert (refused.status_code, "get secrets" in refused.json()["error"]) == (403, True)
        assert (await ann.patch("/agents/twin", json={"secretRefs": ["keys"]})).status_code == 403
        connector = {"name": "thief", "service": "custom", "url": "https://mcp.example.com/mcp"}
        named = {"authSecretName": "keys", "authSecretKey": "k"}
        assert (await ann.post("/connectors", json=connector | named)).status_code == 403

        assert (await kay.post("/agents", json=body)).status_code == 201
        assert (await kay.post("/connectors", json=connector | named)).status_code == 201
        elsewhere = {"url": "https://evil.example/mcp"}
        assert (await ann.patch("/connectors/thief", json=elsewhere)).status_code == 403
        assert (await kay.patch("/connectors/thief", json=elsewhere | {"token": "an-own-token"})).status_code == 200
        assert (await ann.get("/agents/greedy")).status_code == 200


async def test_streams_tell_what_the_caller_may_see_and_end_with_the_right(
    people: People, world: World, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, has_rbac: None
) -> None:
    monkeypatch.setattr("komputer.api.auth.RECHECK_INTERVAL_S", 0.5)
    monkeypatch.setattr("komputer.services.access.ALLOWED_TTL_S", 0.5)
    ours = await world.agent("seen")
    headers = {"Authorization": f"Bearer {people.tokens['ann']}"}
    async with (
        aiohttp.ClientSession(headers=headers) as ann,
        ann.get(f"{people.url}/api/v1/events/stream", timeout=aiohttp.ClientTimeout(total=60)) as everything,
        ann.ws_connect(f"{people.url}/api/v1/agents/seen/ws") as own,
    ):
        foreign = await ann.ws_connect(f"{people.url}/api/v1/agents/twin/ws?namespace={people.there}")
        await foreign.receive()
        assert foreign.close_code == 4403
        unseen = await ann.ws_connect(f"{people.url}/api/v1/agents/of-{people.there}/ws")
        await unseen.receive()
        assert unseen.close_code == 4404, "whether there is one elsewhere is not told"
        other = World(cluster, world.log, world.gateway, world.url, world.model, world.http, namespace=people.there)
        account = {"metadata": {"name": "komputer-agent", "namespace": people.there}}
        with contextlib.suppress(Conflict):
            await cluster.create(SERVICE_ACCOUNTS, account)
        hidden = await other.agent("hidden")
        await hidden.start()
        await ours.start()
        assert json.loads((await own.receive(20)).data)["agentName"] == "seen"
        told: list[str] = []
        async with asyncio.timeout(20):
            while not any("seen" in line for line in told):
                told.append((await everything.content.readline()).decode())
        assert "hidden" not in "".join(told)
        await cluster.delete(BINDINGS, "ann-edit", people.here)
        await own.receive(30)
        assert own.close_code == 4403, "the right is gone, and so is the stream"


async def test_a_browser_sends_its_token_as_it_does_to_kubernetes(people: People, has_rbac: None) -> None:
    token = base64.urlsafe_b64encode(people.tokens["ann"].encode()).decode().rstrip("=")
    offered = (f"base64url.bearer.authorization.k8s.io.{token}", "komputer.events")
    async with aiohttp.ClientSession() as browser:
        socket = await browser.ws_connect(f"{people.url}/api/v1/agents/twin/ws", protocols=offered)
        assert socket.protocol == "komputer.events", "and the token is not said back"
        await socket.close()


async def test_only_known_origins_are_answered(people: People) -> None:
    async with people.client("zoe") as zoe, httpx.AsyncClient() as browser:
        known, stranger = {"Origin": "https://dashboard.example.com"}, {"Origin": "https://evil.example"}
        answered = await zoe.get("/connector-templates", headers=known)
        assert answered.headers["access-control-allow-origin"] == known["Origin"]
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        allowed = await browser.options(f"{people.url}/api/v1/agents", headers=known | asks)
        assert (allowed.status_code, "authorization" in allowed.headers["access-control-allow-headers"]) == (200, True)
        refused = await zoe.get("/connector-templates", headers=stranger)
        assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin")


async def test_each_write_has_a_line_that_says_who_and_what_and_never_what_was_in_it(people: People) -> None:
    with structlog.testing.capture_logs() as said:
        async with people.client("zoe") as zoe:
            body = {"name": "audited", "instructions": "a-secret-plan"}
            await zoe.post("/agents", json=body)
            await zoe.get("/agents")
    (line,) = [each for each in said if each["event"] == "request"]
    assert line["user"] == f"system:serviceaccount:{people.here}:zoe"
    assert (line["verb"], line["resource"], line["namespace"]) == ("create", "komputeragents", people.here)
    assert (line["method"], line["path"], line["status"]) == ("POST", "/api/v1/agents", 403)
    assert "a-secret-plan" not in str(said)
