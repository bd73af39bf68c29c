"""What was made a moment ago, past this API process, is there; and what of a request has no effect is told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from komputer.events.log import Log
from komputer.kube import AGENTS, CONNECTORS, SECRETS, Cluster, WatchEvent
from tests.contract.api.conftest import served
from tests.contract.api.test_api import runtime, settled
from tests.contract.gateway.world import Runner, World
from tests.unit.api import bare


class Late(Cluster):
    """A Kubernetes API whose watches tell everything late."""

    async def watch(self, *asked: Any, **more: Any) -> AsyncGenerator[WatchEvent, None]:
        async with aclosing(super().watch(*asked, **more)) as events:
            async for event in events:
                if event.type != "BOOKMARK":
                    await asyncio.sleep(0.5)
                yield event


@pytest.fixture
async def late(kubernetes: Path, log: Log, world: World) -> AsyncIterator[httpx.AsyncClient]:
    behind = Late.connect(kubernetes)
    async with served(behind, log, world) as client:
        yield client
    await behind.close()


async def test_an_agent_that_kubectl_has_just_made_is_never_404(
    late: httpx.AsyncClient, world: World, cluster: Cluster
) -> None:
    asked = [
        ("GET", "", None),
        ("GET", "/events", None),
        ("GET", "/cost", None),
        ("PATCH", "", {"effort": "low"}),
        ("POST", "/messages", {"content": "Hello?"}),
        ("POST", "/cancel", None),
        ("POST", "/compact", None),
        ("DELETE", "", None),
    ]
    for index, (method, path, body) in enumerate(asked):
        name = f"fresh{index}"
        manifest = {"metadata": {"name": name, "namespace": world.namespace}, "spec": {"instructions": "Say hello."}}
        await cluster.create(AGENTS, manifest)
        answer = await late.request(method, f"/agents/{name}{path}", json=body)
        assert answer.status_code in (200, 202, 409), (method, path, answer.text)
    url = str(late.base_url)
    async with aiohttp.ClientSession() as session:
        for index in range(2):
            for kind in ("ws", "events/stream"):
                name = f"followed{index}{kind[:2]}"
                manifest = {
                    "metadata": {"name": name, "namespace": world.namespace},
                    "spec": {"instructions": "Say hello."},
                }
                await cluster.create(AGENTS, manifest)
                if kind == "ws":
                    socket = await session.ws_connect(f"{url}agents/{name}/ws")
                    with pytest.raises(asyncio.TimeoutError):  # nothing happens, and it is not closed with 4404
                        await socket.receive(0.2)
                    await socket.close()
                else:
                    async with session.get(f"{url}agents/{name}/events/stream") as stream:
                        assert stream.status == 200


async def test_a_connector_that_kubectl_has_just_made_is_never_404(
    late: httpx.AsyncClient, world: World, cluster: Cluster
) -> None:
    spec = {"service": "custom", "type": "remote", "url": "https://mcp.example.com/mcp", "authType": "none"}
    for index in range(3):
        name = f"fresh{index}"
        manifest = {"metadata": {"name": name, "namespace": world.namespace}, "spec": spec}
        await cluster.create(CONNECTORS, manifest)
        assert (await late.get(f"/connectors/{name}")).status_code == 200
        secret = {"metadata": {"name": name, "namespace": world.namespace}, "data": {"k": "dg=="}}
        await cluster.create(SECRETS, secret)
        body = {"name": f"user{index}", "instructions": "x", "connectors": [name], "secretRefs": [name]}
        assert (await late.post("/agents", json=body)).status_code == 201


async def test_what_is_not_there_is_404_and_a_name_that_cannot_be_too(rest: httpx.AsyncClient) -> None:
    for name in ("nobody", "no..body", "x" * 300, "%00", "No%20Body", "a%2Fb", ".."):
        answer = await rest.get(f"/agents/{name}/cost")
        assert (answer.status_code, answer.json().keys()) == (404, {"error", "code"}), name


async def test_every_operation_with_a_body_names_the_fields_that_it_does_not_know(
    rest: httpx.AsyncClient, world: World
) -> None:
    connector = {"name": "tools", "service": "custom", "url": "https://mcp.example.com/mcp"}
    bodies: dict[str, tuple[str, str, dict[str, Any]]] = {
        "create_agent": ("POST", "/agents", {"name": "ada", "instructions": "Say hello.", "allowedTools": ["Baash"]}),
        "patch_agent": ("PATCH", "/agents/ada", {"effort": "low"}),
        "send_agent_message": ("POST", "/agents/ada/messages", {"content": "Hello?"}),
        "compact_agent": ("POST", "/agents/ada/compact", {"instructions": "Short."}),
        "create_connector": ("POST", "/connectors", connector),
        "update_connector": ("PATCH", "/connectors/tools", {"disabled": True}),
        "create_secret": ("POST", "/secrets", {"name": "keys", "data": {"a": "b"}}),
        "update_secret": ("PATCH", "/secrets/keys", {"data": {"a": "c"}}),
    }
    assert bodies.keys() == {route.operation_id for route in bare.routes() if route.body_field}
    ada: Runner | None = None
    for operation, (method, path, body) in bodies.items():
        if operation == "send_agent_message":
            ada = await runtime(world)
        if operation == "compact_agent" and ada:
            await ada.end(session_id="s1")
            await settled(rest, taskStatus="Complete")
        answer = await rest.request(method, path, json={**body, "namespacee": "x"})
        assert answer.status_code in (200, 201, 202), answer.text
        told = answer.json()["warnings"]
        assert told[0].startswith("unknown field 'namespacee' is ignored"), operation
        assert (len(told) == 2) == (operation == "create_agent"), told
    assert "warnings" not in (await rest.patch("/agents/ada", json={"effort": "high"})).json()
