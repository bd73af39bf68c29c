"""Connectors over REST, on a Kubernetes API: what is kept, what is refused, what is told."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog

from komputer.domain import names
from komputer.domain.errors import NotFound
from komputer.kube import AGENTS, CONNECTORS, NAMESPACES, SECRETS
from tests.contract.gateway.serving import Model, answers, free_port, serving
from tests.contract.gateway.world import World
from tests.fixtures.mcp_generations import TOKEN, mcp_server, new_mcp_server, old_python
from tests.fixtures.mcp_servers import McpServer
from tests.waiting import eventually

__all__ = ["mcp_server", "new_mcp_server", "old_python"]

URL = "https://mcp.example.com/mcp"


async def make(rest: httpx.AsyncClient, name: str = "git", status: int = 201, **fields: Any) -> dict[str, Any]:
    answer = await rest.post("/connectors", json={"name": name, "service": "custom", "url": URL, **fields})
    assert answer.status_code == status, answer.text
    assert TOKEN not in answer.text
    return dict(answer.json())


async def refused(answer: httpx.Response, status: int, code: str, word: str = "") -> None:
    body = answer.json()
    assert (answer.status_code, body.get("code")) == (status, code), body
    assert body.keys() == {"error", "code"}
    assert word in body["error"]


async def person(world: World, name: str = "mine", key: str = "token", namespace: str = "", **metadata: Any) -> None:
    """A Secret of a person's own."""
    whole = {"name": name, "namespace": namespace or world.namespace, **metadata}
    data = {key: base64.b64encode(TOKEN.encode()).decode()}
    await world.cluster.create(SECRETS, {"metadata": whole, "type": "Opaque", "data": data})


async def test_a_connector_is_made_read_listed_and_deleted(rest: httpx.AsyncClient, world: World) -> None:
    await person(world, key="pat")
    made = await make(rest, displayName="Git", authSecretName="mine", authSecretKey="pat")
    assert made == {
        "name": "git",
        "namespace": world.namespace,
        "service": "custom",
        "displayName": "Git",
        "url": URL,
        "type": "remote",
        "authType": "token",
        "authSecretName": "mine",
        "authSecretKey": "pat",
        "disabled": False,
        "attachedAgents": 0,
        "agentNames": [],
        "createdAt": made["createdAt"],
        "health": {"state": "unknown"},
    }
    assert (await rest.get("/connectors/git")).json() == made
    listed = (await rest.get("/connectors", params={"namespace": world.namespace})).json()
    assert listed == {"connectors": [made]}
    assert made in (await rest.get("/connectors")).json()["connectors"]
    await refused(await rest.post("/connectors", json={"name": "git", "service": "x", "url": URL}), 409, "exists")
    deleted = await rest.delete("/connectors/git")
    assert (deleted.status_code, deleted.json()) == (200, {"status": "deleted", "name": "git"})
    for call in (rest.get, rest.delete):
        await refused(await call("/connectors/git"), 404, "connector_not_found", "'git'")
    await refused(await rest.patch("/connectors/git", json={"disabled": True}), 404, "connector_not_found")
    await refused(await rest.get("/connectors/git/tools"), 404, "connector_not_found")
    await world.cluster.get(SECRETS, "mine", world.namespace)  # a person's Secret stays


async def test_a_token_is_put_into_a_secret_that_goes_with_the_connector(
    rest: httpx.AsyncClient, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        made = await make(rest, token=f"  {TOKEN}\n")
        assert made["authType"] == "token"
        secret = await world.cluster.get(SECRETS, made["authSecretName"], world.namespace)
        assert base64.b64decode(secret["data"][made["authSecretKey"]]).decode() == TOKEN
        assert secret["metadata"]["labels"][names.MANAGED_BY_LABEL] == names.MANAGED_BY
        (owner,) = secret["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("KomputerConnector", "git", True)
        await rest.delete("/connectors/git")
        again = await make(rest, token=TOKEN)  # its name can be used again at once
    assert again["authSecretName"] != made["authSecretName"]

    async def is_collected() -> bool:
        return not await exists(world, made["authSecretName"])

    await eventually(is_collected, within_s=90)
    assert await exists(world, again["authSecretName"])
    assert TOKEN not in caplog.text


async def exists(world: World, secret: str) -> bool:
    try:
        await world.cluster.get(SECRETS, secret, world.namespace)
    except NotFound:
        return False
    return True


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"name": "Git"}, "invalid", "name"),
        ({"name": "komputer"}, "invalid", "reserved"),
        ({"name": "ide"}, "invalid", "Claude Code has a server of this name"),
        ({"name": "claude-in-chrome"}, "invalid", "reserved"),
        ({"name": "a.b"}, "invalid", "name"),
        ({"service": ""}, "invalid", "service"),
        ({"service": 5}, "invalid", "service"),
        ({"url": None}, "invalid", "url"),
        ({"url": "mcp.example.com"}, "invalid", "https"),
        ({"url": "http://mcp.example.com"}, "address_not_allowed", "https"),
        ({"url": "http://127.0.0.1:6443"}, "address_not_allowed", "platform"),
        ({"url": "https://169.254.169.254/"}, "address_not_allowed", "link-local"),
        ({"url": "https://user:pass@mcp.example.com/"}, "invalid", "password"),
        ({"type": "stdio"}, "invalid", "type"),
        ({"authType": "oauth"}, "not_supported", "oauth"),
        ({"authType": "basic"}, "invalid", "authType"),
        ({"authType": "token"}, "invalid", "authSecretName"),
        ({"authType": "header", "token": "x"}, "invalid", "headerName"),
        ({"authType": "header", "token": "x", "headerName": "Host"}, "invalid", "headerName"),
        ({"authType": "header", "token": "x", "headerName": "a b"}, "invalid", "headerName"),
        ({"authType": "none", "token": "x"}, "invalid", "none"),
        ({"headerName": "x-key"}, "invalid", "headerName"),
        ({"token": "a\nb"}, "invalid", "token"),
        ({"token": ""}, "invalid", "token"),
        ({"token": "x", "authSecretName": "mine"}, "invalid", "both"),
        ({"authSecretKey": "x"}, "invalid", "authSecretName"),
        ({"authSecretName": "not-there"}, "secret_not_found", "not-there"),
        ({"authSecretName": "../x"}, "invalid", "authSecretName"),
        ({"oauthClientId": "x"}, "not_supported", "oauthClientId"),
    ],
)
async def test_bad_input_is_400_with_a_sentence(
    rest: httpx.AsyncClient, world: World, fields: dict[str, Any], code: str, word: str
) -> None:
    body = {"name": "git", "service": "custom", "url": URL, **fields}
    given = {field: value for field, value in body.items() if value is not None}
    await refused(await rest.post("/connectors", json=given), 400, code, word)
    assert (await rest.get("/connectors", params={"namespace": world.namespace})).json() == {"connectors": []}
    assert (await world.cluster.list(SECRETS, world.namespace)).items == []


@pytest.fixture
async def attacker() -> AsyncIterator[tuple[str, Model]]:
    """An address of somebody's choice, and what it gets."""
    upstream = Model(answers(200, {}))
    async with serving(upstream, lifespan="off") as url:
        yield url, upstream


async def test_no_foreign_secret_is_ever_sent_to_an_address_of_ones_choice(
    rest: httpx.AsyncClient, world: World, attacker: tuple[str, Model]
) -> None:
    url, upstream = attacker
    victim = await make(rest, "victim", token=TOKEN)
    await rest.post("/agents", json={"name": "ada", "instructions": "x"})
    agent = await world.cluster.get(AGENTS, "ada", world.namespace)
    owner = {"apiVersion": names.API_VERSION, "kind": "KomputerAgent", "name": "ada", "uid": agent["metadata"]["uid"]}
    await person(world, "of-an-agent", ownerReferences=[owner])
    await person(world, "of-the-platform", labels={names.PLATFORM_LABEL: "true"})
    other = f"{world.namespace}-b"
    await world.cluster.create(NAMESPACES, {"metadata": {"name": other}})
    try:
        await person(world, "elsewhere", namespace=other)
        for name in (victim["authSecretName"], "of-an-agent", "of-the-platform"):
            body = {"name": "thief", "service": "custom", "url": url, "authSecretName": name}
            await refused(await rest.post("/connectors", json=body), 403, "secret_not_allowed", name)
        for name in ("elsewhere", f"{other}/elsewhere"):
            body = {"name": "thief", "service": "custom", "url": url, "authSecretName": name}
            answer = await rest.post("/connectors", json=body)
            assert answer.status_code == 400, answer.text
        spec = {"service": "custom", "url": url, "authSecretKeyRef": {"name": victim["authSecretName"], "key": "token"}}
        manifest = {"metadata": {"name": "thief", "namespace": world.namespace}, "spec": spec}
        await world.cluster.create(CONNECTORS, manifest)
        await refused(await rest.get("/connectors/thief/tools"), 502, "mcp_secret_not_allowed")
    finally:
        await world.cluster.delete(NAMESPACES, other)
    assert not upstream.seen
    await rest.delete("/connectors/thief")
    assert await exists(world, victim["authSecretName"]), "the victim's Secret is still there"


async def test_changing_the_url_asks_again_whether_the_secret_may_be_used(
    rest: httpx.AsyncClient, world: World, attacker: tuple[str, Model]
) -> None:
    url, upstream = attacker
    await person(world)
    await make(rest, authSecretName="mine")
    assert (await rest.patch("/connectors/git", json={"url": f"{URL}/v2"})).status_code == 200
    label = {"metadata": {"labels": {names.PLATFORM_LABEL: "true"}}}
    await world.cluster.merge_patch(SECRETS, "mine", world.namespace, label)
    await refused(await rest.patch("/connectors/git", json={"url": url}), 403, "secret_not_allowed")
    await refused(
        await rest.patch("/connectors/git", json={"url": "https://10.0.0.1/"}), 400, "address_not_allowed", "private"
    )
    assert (await rest.get("/connectors/git")).json()["url"] == f"{URL}/v2"
    assert not upstream.seen


async def test_a_patch_changes_what_it_names_and_nothing_else(rest: httpx.AsyncClient, world: World) -> None:
    made = await make(rest, authType="header", headerName="X-Key", token="first-token-012345")
    changed = (await rest.patch("/connectors/git", json={"displayName": "Git", "disabled": True})).json()
    assert (changed["displayName"], changed["disabled"]) == ("Git", True)
    await refused(await rest.get("/connectors/git/tools"), 409, "connector_disabled")
    changed = (await rest.patch("/connectors/git", json={"headerName": "X-Other", "disabled": False})).json()
    assert (changed["headerName"], changed["disabled"]) == ("X-Other", False)
    assert changed["authSecretName"] == made["authSecretName"]
    rotated = (await rest.patch("/connectors/git", json={"token": TOKEN})).json()
    assert rotated["authSecretName"] == made["authSecretName"]
    assert await value(world, rotated) == TOKEN
    moved = (await rest.patch("/connectors/git", json={"token": "third-token-012345", "url": f"{URL}/v3"})).json()
    assert (await value(world, moved), moved["url"]) == ("third-token-012345", f"{URL}/v3")
    assert not await exists(world, made["authSecretName"]), "no address sees a token that was meant for another"
    before = (await rest.get("/connectors/git")).json()
    for body, code in (
        ({}, "invalid"),
        ({"authType": "none"}, "not_supported"),
        ({"authSecretName": "mine"}, "not_supported"),
        ({"url": f"{URL}/v4", "token": "a\nb"}, "invalid"),
        ({"url": "http://x.example.com", "displayName": "y"}, "address_not_allowed"),
        ({"disabled": "yes"}, "invalid"),
    ):
        await refused(await rest.patch("/connectors/git", json=body), 400, code)
    assert (await rest.get("/connectors/git")).json() == before


async def test_a_connector_whose_address_has_a_query_is_changed(rest: httpx.AsyncClient, world: World) -> None:
    """Kubernetes writes `&` as `\\u0026`, and compares JSON texts in a patch's tests."""
    await make(rest, token="first-token-012345", url=f"{URL}?a=1&b=2")
    for body in ({"displayName": "<Git>"}, {"url": f"{URL}?a=1&b=3", "token": TOKEN}, {"disabled": True}):
        changed = await rest.patch("/connectors/git", json=body)
        assert changed.status_code == 200, changed.text


async def test_changes_of_different_fields_at_once_all_succeed(rest: httpx.AsyncClient, world: World) -> None:
    await make(rest, authType="header", headerName="X-Key", token="first-token-012345")
    bodies = [{"displayName": "Git"}, {"disabled": True}, {"headerName": "X-Other"}]
    answers = await asyncio.gather(*(rest.patch("/connectors/git", json=body) for body in bodies))
    assert [answer.status_code for answer in answers] == [200] * 3, [answer.text for answer in answers]
    shown = (await rest.get("/connectors/git")).json()
    assert (shown["displayName"], shown["disabled"], shown["headerName"]) == ("Git", True, "X-Other")


async def test_a_status_that_is_written_meanwhile_is_in_nobodys_way(rest: httpx.AsyncClient, world: World) -> None:
    await make(rest)

    async def writes() -> None:
        for count in range(40):
            status = {"status": {"attachedAgents": count}}
            await world.cluster.merge_patch(CONNECTORS, "git", world.namespace, status, "status")

    writing = asyncio.create_task(writes())
    answers = [await rest.patch("/connectors/git", json={"displayName": f"Git {n}"}) for n in range(10)]
    await writing
    assert {answer.status_code for answer in answers} == {200}


async def test_of_two_changes_of_the_credential_at_once_none_is_half_made(
    rest: httpx.AsyncClient, world: World
) -> None:
    await make(rest, token="token-number-00000")
    bodies = [{"token": f"token-number-{n:05}", "url": f"{URL}/{n}"} for n in range(1, 7)]
    results = await asyncio.gather(*(rest.patch("/connectors/git", json=body) for body in bodies))
    assert {answer.status_code for answer in results} <= {200, 409}
    now = (await rest.get("/connectors/git")).json()
    assert await value(world, now) == f"token-number-{int(now['url'].rpartition('/')[2]):05}"
    ours = [s for s in (await world.cluster.list(SECRETS, world.namespace)).items if s["type"] == "Opaque"]
    assert [secret["metadata"]["name"] for secret in ours] == [now["authSecretName"]], "no other is left behind"


async def value(world: World, connector: dict[str, Any]) -> str:
    secret = await world.cluster.get(SECRETS, connector["authSecretName"], world.namespace)
    return base64.b64decode(secret["data"][connector["authSecretKey"]]).decode()


async def test_a_token_never_overwrites_a_persons_own_secret(rest: httpx.AsyncClient, world: World) -> None:
    await person(world)
    await make(rest, authSecretName="mine")
    changed = (await rest.patch("/connectors/git", json={"token": "new-token-0123456"})).json()
    assert changed["authSecretName"] != "mine"
    assert await value(world, changed) == "new-token-0123456"
    assert await value(world, {"authSecretName": "mine", "authSecretKey": "token"}) == TOKEN
    assert (await rest.delete("/connectors/git")).status_code == 200
    own = await world.cluster.get(SECRETS, "mine", world.namespace)
    assert "ownerReferences" not in own["metadata"], "it does not go with the connector"
    await make(rest, "open")
    given = (await rest.patch("/connectors/open", json={"token": TOKEN})).json()
    assert (given["authType"], await value(world, given)) == ("token", TOKEN)


async def test_tools_are_listed_of_every_generation_of_servers(
    rest: httpx.AsyncClient, world: World, mcp_server: McpServer
) -> None:
    await make(rest, url=mcp_server.url, token=TOKEN)
    answer = await rest.get("/connectors/git/tools")
    assert answer.status_code == 200, answer.text
    tools = {tool["name"]: tool["description"] for tool in answer.json()["tools"]}
    assert tools == {"add": "Add two numbers.", "slow": "Takes its time.", "fail": "Fails."}
    assert {request["headers"].get("authorization") for request in mcp_server.seen} == {f"Bearer {TOKEN}"}
    assert (await rest.get("/connectors/git")).json()["health"]["state"] == "ok"


async def test_tools_are_listed_with_a_header_of_the_servers_own(
    rest: httpx.AsyncClient, new_mcp_server: McpServer
) -> None:
    new_mcp_server.lets_in(f"x-key: {TOKEN}")
    await make(rest, url=new_mcp_server.url, token=TOKEN, authType="header", headerName="X-Key")
    assert (await rest.get("/connectors/git/tools")).status_code == 200
    assert all("authorization" not in request["headers"] for request in new_mcp_server.seen)


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        ("authorization: Bearer other", "mcp_unauthorized"),
        ("403", "mcp_forbidden"),
        ("302", "mcp_redirect"),
        ("308", "mcp_redirect"),
        ("500", "mcp_unavailable"),
        ("404", "mcp_protocol"),
    ],
)
async def test_a_server_that_fails_is_502_with_a_code_and_shown(
    rest: httpx.AsyncClient, new_mcp_server: McpServer, gate: str, code: str
) -> None:
    new_mcp_server.lets_in(gate)
    await make(rest, url=new_mcp_server.url, token=TOKEN)
    answer = await rest.get("/connectors/git/tools")
    await refused(answer, 502, code, "connector 'git': ")
    health = (await rest.get("/connectors/git")).json()["health"]
    assert (health["state"], health["code"]) == ("failed", code)
    listed = (await rest.get("/connectors")).json()["connectors"]
    assert health in [each["health"] for each in listed]
    assert TOKEN not in answer.text + json.dumps(health)


async def test_no_log_line_holds_a_token(
    rest: httpx.AsyncClient, world: World, new_mcp_server: McpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours and every library's, from DEBUG on."""
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), cache_logger_on_first_use=False)
    with caplog.at_level(logging.DEBUG):
        await make(rest, url=new_mcp_server.url, token=TOKEN)
        assert (await rest.get("/connectors/git/tools")).status_code == 200
        for gate in ("500", "401", "302"):
            new_mcp_server.lets_in(gate)
            assert (await rest.get("/connectors/git/tools")).status_code == 502
        await rest.patch("/connectors/git", json={"token": TOKEN, "url": f"http://127.0.0.1:{free_port()}/"})
        await rest.get("/connectors/git/tools")
        await rest.patch("/connectors/git", json={"token": f"{TOKEN}\n{TOKEN}"})
        await rest.delete("/connectors/git")
    structlog.configure(**before)
    assert "tools/list" in caplog.text or "httpcore" in caplog.text, "DEBUG lines of libraries are looked at"
    encoded = base64.b64encode(TOKEN.encode()).decode()
    for secret in (TOKEN, encoded, encoded.rstrip("=")):
        assert secret not in caplog.text


async def test_a_server_that_is_none_is_told_so(rest: httpx.AsyncClient) -> None:
    await make(rest, url=f"http://127.0.0.1:{free_port()}/", token=TOKEN)
    await refused(await rest.get("/connectors/git/tools"), 502, "mcp_unreachable")
    for number, reply in enumerate((answers(200, b"<html>", content_type="text/html"), answers(200, b"{"))):
        async with serving(Model(reply), lifespan="off") as url:
            await make(rest, f"none-{number}", url=url)
            await refused(await rest.get(f"/connectors/none-{number}/tools"), 502, "mcp_protocol")


async def test_counts_are_live_and_deleting_names_who_loses_it(rest: httpx.AsyncClient, world: World) -> None:
    await make(rest)
    for name in ("eve", "ada"):
        body = {"name": name, "instructions": "x", "connectors": ["git"]}
        assert (await rest.post("/agents", json=body)).status_code == 201
    found = (await rest.get("/connectors/git")).json()
    assert (found["attachedAgents"], found["agentNames"]) == (2, ["ada", "eve"])
    assert (await rest.patch("/agents/eve", json={"connectors": []})).status_code == 200
    (found,) = (await rest.get("/connectors", params={"namespace": world.namespace})).json()["connectors"]
    assert (found["attachedAgents"], found["agentNames"]) == (1, ["ada"])
    assert (await rest.delete("/connectors/git")).json()["agentNames"] == ["ada"]

    async def is_told() -> bool:
        return "ConnectorMissing" in (await rest.get("/agents/ada")).text

    await eventually(is_told)


async def test_an_agent_with_a_connector_that_does_not_exist_is_400_and_changes_nothing(
    rest: httpx.AsyncClient, world: World
) -> None:
    await make(rest)
    for name in ("never", "Git", f"{world.namespace}/git", "a/b", "", "../git"):
        body = {"name": "ada", "instructions": "x", "connectors": ["git", name]}
        await refused(await rest.post("/agents", json=body), 400, "unknown_connector", repr(name))
    assert (await rest.get("/agents/ada")).status_code == 404
    await rest.post("/agents", json={"name": "ada", "instructions": "x", "connectors": ["git"]})
    body = {"connectors": ["never"], "systemPrompt": "changed"}
    await refused(await rest.patch("/agents/ada", json=body), 400, "unknown_connector", "never")
    agent = (await rest.get("/agents/ada")).json()
    assert agent["connectors"] == ["git"]
    assert "systemPrompt" not in agent


async def test_the_catalogue_has_what_a_form_needs(rest: httpx.AsyncClient) -> None:
    templates = (await rest.get("/connector-templates")).json()["templates"]
    assert [each["service"] for each in templates] == [
        *("github", "atlassian", "slack", "gmail", "google-calendar", "linear", "notion", "excalidraw", "custom")
    ]
    wanted = {"service", "displayName", "description", "url", "authType", "authLabel", "guideSteps", "color", "logoUrl"}
    for each in templates:
        assert wanted <= each.keys()
        assert each["authType"] in ("token", "oauth", "none")
