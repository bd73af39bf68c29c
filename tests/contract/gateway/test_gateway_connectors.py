"""The way to a connector's server: who may, what passes, how it streams, and how failures are told."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx
import httpx2
import pytest
from mcp import MCPError
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from komputer.domain import names
from komputer.domain.ref import ObjectRef
from komputer.gateway.connectors import proxy
from komputer.kube import AGENTS, CONNECTORS, SECRETS
from tests.contract.gateway.serving import WITHIN_S, Model, answers, breaks_off, free_port, serving, streams
from tests.contract.gateway.world import OWN_PORT, Runner, World
from tests.fixtures.mcp_generations import OLD, OLD_JSON, TOKEN, mcp_server, new_mcp_server, old_python
from tests.fixtures.mcp_servers import McpServer
from tests.waiting import eventually

__all__ = ["mcp_server", "new_mcp_server", "old_python"]

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


async def connect(world: World, url: str, name: str = "git", token: str | None = TOKEN, **spec: Any) -> None:
    """A connector, as `kubectl apply` makes it."""
    whole = {"service": "custom", "url": url, **spec}
    if token is not None:
        secret = {"metadata": {"name": f"{name}-secret", "namespace": world.namespace}, "type": "Opaque"}
        data = {"token": base64.b64encode(token.encode()).decode()}
        await world.cluster.create(SECRETS, secret | {"data": data})
        whole["authSecretKeyRef"] = {"name": f"{name}-secret", "key": "token"}
    await world.cluster.create(CONNECTORS, {"metadata": {"name": name, "namespace": world.namespace}, "spec": whole})


@pytest.fixture
async def ada(world: World) -> Runner:
    """An agent with the connector `git`, whose task is open."""
    ada = await world.agent(connectors=["git"])
    await ada.start()
    return ada


@asynccontextmanager
async def client(ada: Runner, mode: Literal["auto", "legacy"] = "auto", name: str = "git") -> AsyncIterator[Client]:
    headers = await ada.authorization()
    url = f"{ada.world.url}/connectors/{name}"
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


async def ask(ada: Runner, body: Any = CALL, name: str = "git", **headers: str) -> httpx.Response:
    accept = {"accept": "application/json, text/event-stream"}
    return await ada.post(f"/connectors/{name}", body, **{**accept, **headers})


async def refused(ada: Runner, code: str, name: str = "git") -> str:
    """The sentence of an error in MCP's own shape."""
    answered = await ask(ada, name=name)
    assert answered.status_code == 200, answered.text
    body = answered.json()
    assert (body["id"], body["error"]["data"]["code"]) == (1, code), body
    return str(body["error"]["message"])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_tools_are_listed_and_called_with_every_generation_of_servers(
    ada: Runner, world: World, mcp_server: McpServer, mode: Literal["auto", "legacy"]
) -> None:
    await connect(world, mcp_server.url)
    async with client(ada, mode) as mcp:
        assert {tool.name for tool in (await mcp.list_tools()).tools} == {"add", "slow", "fail"}
        answer = await mcp.call_tool("add", {"a": 20, "b": 22})
        assert "sum=42" in str(answer.content)
        failed = await mcp.call_tool("fail", {})
        assert failed.is_error
    assert mcp_server.seen
    for request in mcp_server.seen:
        assert request["status"] != 401, "the credential is there at every request"
        assert request["headers"]["authorization"] == f"Bearer {TOKEN}"
        assert ada.token not in json.dumps(request)
    methods = {request["method"] for request in mcp_server.seen}
    if mode == "legacy":
        assert {"POST", "DELETE"} <= methods, "a session is begun and ended"
        assert any("mcp-session-id" in request["headers"] for request in mcp_server.seen)


async def test_a_credential_goes_under_the_header_that_the_connector_names(
    ada: Runner, world: World, new_mcp_server: McpServer
) -> None:
    new_mcp_server.lets_in(f"x-api-key: {TOKEN}")
    await connect(world, new_mcp_server.url, authType="header", headerName="X-Api-Key")
    async with client(ada) as mcp:
        assert (await mcp.list_tools()).tools
    assert all("authorization" not in request["headers"] for request in new_mcp_server.seen)


async def test_without_a_credential_none_is_sent(ada: Runner, world: World, new_mcp_server: McpServer) -> None:
    new_mcp_server.lets_in("")
    await connect(world, new_mcp_server.url, token=None, authType="none")
    async with client(ada) as mcp:
        assert (await mcp.list_tools()).tools
    assert all("authorization" not in request["headers"] for request in new_mcp_server.seen)


async def test_what_passes_is_mcps_and_nothing_of_the_pod(ada: Runner, world: World) -> None:
    upstream = Model(answers(200, {"jsonrpc": "2.0", "id": 1, "result": {}}, mcp_session_id="s-1", set_cookie="a=b"))
    async with serving(upstream, lifespan="off") as url:
        await connect(world, f"{url}/mcp")
        given = {"mcp-session-id": "s-0", "mcp-protocol-version": "2025-11-25", "cookie": "a=b", "x-forwarded-for": "1"}
        answered = await ask(ada, **given)
    assert answered.json()["result"] == {}
    assert answered.headers["mcp-session-id"] == "s-1"
    assert "set-cookie" not in answered.headers
    (seen,) = upstream.seen
    assert (seen.path, json.loads(seen.body)) == ("/mcp", CALL)
    assert seen.headers["mcp-session-id"] == "s-0"
    assert seen.headers["mcp-protocol-version"] == "2025-11-25"
    assert seen.headers["authorization"] == f"Bearer {TOKEN}"
    assert not {"cookie", "x-forwarded-for"} & set(seen.headers)


async def test_there_is_no_connector_without_an_open_task(world: World) -> None:
    ada = await world.agent(connectors=["git"])
    await ada.hello()
    await connect(world, f"http://127.0.0.1:{free_port()}/mcp")
    await refused(ada, "no_open_task")
    await ada.start()
    await refused(ada, "mcp_unreachable")
    await ada.end()
    await refused(ada, "no_open_task")


async def test_only_an_agents_current_pod_comes_through(ada: Runner, world: World) -> None:
    await connect(world, f"http://127.0.0.1:{free_port()}/mcp")
    await refused(ada, "mcp_unreachable")
    good, ada.token = ada.token, "nonsense"
    assert (await ask(ada)).status_code == 401
    ada.token = good
    await world.delete_pod("ada-pod")

    async def is_refused() -> bool:
        return (await ask(ada)).status_code in (401, 403)

    await eventually(is_refused)


async def test_what_the_spec_does_not_name_now_is_refused_at_once(
    ada: Runner, world: World, new_mcp_server: McpServer
) -> None:
    await connect(world, new_mcp_server.url)
    await connect(world, new_mcp_server.url, "other")
    assert "'other' is not attached" in await refused(ada, "connector_not_attached", "other")
    async with client(ada) as mcp:
        await mcp.list_tools()
        await world.patch_spec(connectors=["other"])
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    await mcp.call_tool("add", {"a": 1, "b": 1})
                except MCPError as error:
                    told = error.error.data
                    break
        assert told == {"code": "connector_not_attached"}
    async with client(ada, name="other") as mcp:
        assert (await mcp.list_tools()).tools


async def test_a_disabled_or_deleted_connector_is_refused_at_once(
    ada: Runner, world: World, new_mcp_server: McpServer
) -> None:
    await connect(world, new_mcp_server.url)
    async with client(ada) as mcp:
        assert (await mcp.list_tools()).tools
    spec = {"spec": {"disabled": True}}
    await world.cluster.merge_patch(CONNECTORS, "git", world.namespace, spec)
    await until_refused(ada, "connector_disabled")
    await world.cluster.delete(CONNECTORS, "git", world.namespace)
    await until_refused(ada, "connector_not_found")


async def until_refused(ada: Runner, code: str) -> None:
    async def is_told() -> bool:
        return code in (await ask(ada)).text

    await eventually(is_told)


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (401, "mcp_unauthorized", "new token"),
        (403, "mcp_forbidden", "permission"),
        (302, "mcp_redirect", "redirect"),
        (307, "mcp_redirect", "redirect"),
        (503, "mcp_unavailable", "later"),
    ],
)
async def test_a_servers_refusal_reaches_the_agent_as_an_error_of_mcp_and_is_kept(
    ada: Runner, world: World, status: int, code: str, word: str
) -> None:
    upstream = Model(answers(status, f"no {TOKEN}".encode(), www_authenticate="Bearer", location="http://127.0.0.1:1/"))
    async with serving(upstream, lifespan="off") as url:
        await connect(world, url)
        sentence = await refused(ada, code)
    assert "Connector 'git'" in sentence
    assert word in sentence
    assert len(upstream.seen) == 1, "no redirect was followed"
    uid = (await world.cluster.get(CONNECTORS, "git", world.namespace))["metadata"]["uid"]
    ref = ObjectRef(world.namespace, "git")
    seen = (await world.log.health().read([(ref, uid)]))[ref]
    assert (seen.state, seen.code) == ("failed", code)
    assert TOKEN not in sentence + seen.reason
    assert await world.log.health().read([(ref, "another-uid")]) == {}


async def test_a_server_that_is_not_there_is_told_without_its_address(ada: Runner, world: World) -> None:
    port = free_port()
    await connect(world, f"http://127.0.0.1:{port}/mcp")
    sentence = await refused(ada, "mcp_unreachable")
    assert str(port) not in sentence
    notification = await ask(ada, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (notification.status_code, notification.json()["code"]) == (502, "mcp_unreachable")


async def test_a_server_without_tls_behind_https_is_told_as_such(ada: Runner, world: World) -> None:
    async with serving(Model(answers(200, {})), lifespan="off") as url:
        await connect(world, url.replace("http:", "https:"))
        assert "TLS" in await refused(ada, "mcp_unreachable")


async def test_mcps_own_answers_pass_as_they_are(ada: Runner, world: World) -> None:
    upstream = Model(answers(404, {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no session"}}))
    async with serving(upstream, lifespan="off") as url:
        await connect(world, url)
        for status in (400, 404, 405):
            upstream.reply = answers(status, {"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "x"}})
            answered = await ask(ada, **{"mcp-session-id": "s"})
            assert (answered.status_code, answered.json()["error"]["message"]) == (status, "x")
        upstream.reply = answers(404, b"not here")
        assert "path" in await refused(ada, "mcp_protocol")


async def test_an_answer_streams_and_leaving_is_passed_on(ada: Runner, world: World) -> None:
    upstream = Model(streams(b"event: message\ndata: 1\n\n", b"data: 2\n\n"))
    async with serving(upstream, lifespan="off") as url:
        await connect(world, url)
        address = f"{world.url}/connectors/git"
        headers = {**await ada.authorization(), "accept": "text/event-stream"}
        async with world.http.stream("GET", address, headers=headers) as response:
            chunks = response.aiter_raw()
            async with asyncio.timeout(WITHIN_S):
                assert await anext(chunks) == b"event: message\ndata: 1\n\n"
                upstream.may_go_on.set()
                assert await anext(chunks) == b"data: 2\n\n"
        upstream.may_go_on.clear()
        upstream.has_begun.clear()
        async with world.http.stream("POST", address, headers=headers, json=CALL) as response:
            async with asyncio.timeout(WITHIN_S):
                await anext(response.aiter_raw())
        async with asyncio.timeout(WITHIN_S):
            await upstream.was_left.wait()


@pytest.mark.parametrize("mcp_server", ["2.x", OLD, OLD_JSON], indirect=True)
async def test_a_cancelled_call_reaches_the_server(ada: Runner, world: World, mcp_server: McpServer) -> None:
    await connect(world, mcp_server.url)
    async with client(ada) as mcp:
        calling = asyncio.create_task(mcp.call_tool("slow", {"seconds": 600}))
        await eventually(lambda: "slow began" in mcp_server.said)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        await eventually(lambda: "slow cancelled" in mcp_server.said)
        await mcp.list_tools()  # so that the answer to what was cancelled is read before the client closes


async def test_an_answer_that_breaks_off_is_seen_to_break_off(ada: Runner, world: World) -> None:
    async with serving(Model(breaks_off), lifespan="off") as url:
        await connect(world, url)
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(ada)


async def test_an_answer_without_end_is_cut(ada: Runner, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "ANSWER_LIMIT_BYTES", 1000)
    async with serving(Model(answers(200, b"x" * 1001)), lifespan="off") as url:
        await connect(world, url)
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(ada)


async def test_a_credential_that_the_server_sends_back_does_not_reach_the_agent(ada: Runner, world: World) -> None:
    upstream = Model(answers(200, {"jsonrpc": "2.0", "id": 1, "result": {"you": f"Bearer {TOKEN}"}}, x_you=TOKEN))
    async with serving(upstream, lifespan="off") as url:
        await connect(world, url)
        answered = await ask(ada)
    assert answered.json()["result"]["you"] == "Bearer " + "*" * len(TOKEN)
    assert TOKEN not in str(answered.headers)


async def test_a_body_that_is_too_large_or_compressed_is_refused(ada: Runner, world: World) -> None:
    await connect(world, f"http://127.0.0.1:{free_port()}/mcp")
    large = await ask(ada, b"x" * (8 * 2**20 + 1))
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    packed = await ask(ada, b"x", **{"content-encoding": "gzip"})
    assert (packed.status_code, packed.json()["code"]) == (400, "encoding_not_allowed")
    assert (await ada.post("/connectors/git?x=1", CALL)).status_code == 400
    assert (await world.http.put(f"{world.url}/connectors/git")).status_code == 405
    assert (await ada.post("/connectors/git/../../v1/hello", CALL)).status_code != 502


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:{OWN_PORT}/mcp",
        f"http://localhost:{OWN_PORT}/mcp",
        "http://169.254.169.254/latest",
        "https://10.0.0.1/mcp",
        "http://mcp.example.com/mcp",
        "https://redis.team.svc.cluster.local/",
    ],
)
async def test_a_manifest_leads_no_further_than_the_api_allows(ada: Runner, world: World, url: str) -> None:
    await connect(world, url)
    await refused(ada, "mcp_address_not_allowed")


async def test_a_name_is_judged_by_the_address_that_it_leads_to(
    ada: Runner, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that looks public and leads inside, as in DNS rebinding."""
    resolve = asyncio.get_running_loop().getaddrinfo

    async def rebound(host: Any, port: Any, **more: Any) -> Any:
        inside = "10.0.0.7" if host == "mcp.example.com" else host
        return await resolve(inside, port, **more)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebound)
    await connect(world, "https://mcp.example.com/mcp")
    assert "private" in await refused(ada, "mcp_address_not_allowed")


@pytest.mark.parametrize("whose", ["platform", "agent", "connector"])
async def test_a_manifest_cannot_send_a_foreign_secret_anywhere(ada: Runner, world: World, whose: str) -> None:
    upstream = Model(answers(200, {"jsonrpc": "2.0", "id": 1, "result": {}}))
    await connect(world, "https://mcp.example.com/", "other", token=None)
    kind, name = (AGENTS, "ada") if whose == "agent" else (CONNECTORS, "other")
    uid = (await world.cluster.get(kind, name, world.namespace))["metadata"]["uid"]
    owner = {"apiVersion": names.API_VERSION, "kind": kind.kind, "name": name, "uid": uid}
    metadata: dict[str, Any] = {"name": "foreign", "namespace": world.namespace}
    if whose == "platform":
        metadata["labels"] = {names.PLATFORM_LABEL: "true"}
    else:
        metadata["ownerReferences"] = [owner]
    data = {"token": base64.b64encode(TOKEN.encode()).decode()}
    await world.cluster.create(SECRETS, {"metadata": metadata, "type": "Opaque", "data": data})
    async with serving(upstream, lifespan="off") as url:
        await connect(world, url, token=None, authSecretKeyRef={"name": "foreign", "key": "token"})
        await refused(ada, "mcp_secret_not_allowed")
    assert not upstream.seen


async def test_a_token_that_is_replaced_acts_within_seconds(
    ada: Runner, world: World, new_mcp_server: McpServer
) -> None:
    await connect(world, new_mcp_server.url)
    async with client(ada) as mcp:
        assert (await mcp.list_tools()).tools
    new_mcp_server.lets_in("authorization: Bearer another-token-0123")
    await refused(ada, "mcp_unauthorized")
    patch = {"data": {"token": base64.b64encode(b"another-token-0123").decode()}}
    await world.cluster.merge_patch(SECRETS, "git-secret", world.namespace, patch)

    async def is_let_in() -> bool:
        return "mcp_unauthorized" not in (await ask(ada)).text

    await eventually(is_let_in)


async def test_a_missing_secret_is_told_by_name(ada: Runner, world: World) -> None:
    missing = {"name": "not-there", "key": "token"}
    await connect(world, "https://mcp.example.com/", token=None, authSecretKeyRef=missing)
    assert "'not-there'" in await refused(ada, "mcp_secret_missing")
