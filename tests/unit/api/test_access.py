"""What tokens that nobody knows cost those whom we know: nothing. The Kubernetes API here says yes to `good-…`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from starlette.types import Message, Receive, Scope, Send

from komputer.api.auth import Authenticated
from komputer.domain.errors import Unauthorized, Unavailable
from komputer.http.rate import BURST_S
from komputer.kube import Cluster
from komputer.services import access
from komputer.services.access import AccessReviewer
from tests.unit.kube.server import config
from tests.waiting import eventually


@dataclass
class Kubernetes:
    """`reviewed` are the tokens that it was asked about. While `is_open` is not set it keeps other than good ones
    waiting; with `is_away` it answers nobody."""

    reviewed: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    is_away: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        review = await request.json()
        token = review["spec"]["token"]
        if self.is_away:
            return web.Response(status=503)
        self.reviewed.append(token)
        if not (is_good := token.startswith("good-") and token not in self.revoked):
            await self.is_open.wait()
        user = {"user": {"username": token}} if is_good else {}
        return web.json_response(review | {"status": {"authenticated": is_good, **user}})


@asynccontextmanager
async def kubernetes(folder: Path, *, is_open: bool = True) -> AsyncIterator[tuple[Kubernetes, Cluster]]:
    there = Kubernetes()
    if is_open:
        there.is_open.set()
    app = web.Application()
    app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", there.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(config(f"http://127.0.0.1:{runner.addresses[0][1]}")))
    cluster = Cluster.connect(kubeconfig)
    try:
        yield there, cluster
    finally:
        there.is_open.set()
        await cluster.close()
        await runner.cleanup()


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def asked(app: Authenticated, token: str, address: str = "10.0.0.1") -> tuple[int, dict[bytes, bytes]]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/api/v1/agents", "headers": headers}
    await app(scope | {"client": (address, 1)}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


async def test_tokens_that_are_refused_push_out_none_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "TOKENS_CACHED", 10)
    monkeypatch.setattr(access, "VALID_TOKEN_TTL_S", 0.0)
    async with kubernetes(tmp_path) as (there, cluster):
        of_one = AccessReviewer(cluster)
        ann = await of_one.caller("Bearer good-ann")
        for number in range(30):
            with pytest.raises(Unauthorized):
                await of_one.caller(f"Bearer bad-{number}", f"10.0.0.{number}")
        there.is_away = True
        assert await of_one.caller("Bearer good-ann") == ann, "the outage is none of ours"
        with pytest.raises(Unavailable):
            await of_one.caller("Bearer good-new")


async def test_a_token_that_was_revoked_is_not_bridged_over_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "VALID_TOKEN_TTL_S", 0.0)
    monkeypatch.setattr(access, "INVALID_TOKEN_TTL_S", 0.0)
    async with kubernetes(tmp_path) as (there, cluster):
        of_one = AccessReviewer(cluster)
        await of_one.caller("Bearer good-ann")
        there.revoked.add("good-ann")
        with pytest.raises(Unauthorized):
            await of_one.caller("Bearer good-ann")
        there.is_away = True
        with pytest.raises(Unauthorized):
            await of_one.caller("Bearer good-ann")


async def test_a_few_unknown_tokens_are_looked_at_at_once_some_wait_and_more_are_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "VALID_TOKEN_TTL_S", 0.0)
    async with kubernetes(tmp_path, is_open=False) as (there, cluster):
        of_one = AccessReviewer(cluster)
        app = Authenticated(fine, of_one)
        assert (await asked(app, "good-ann"))[0] == 200
        many = [asyncio.create_task(asked(app, f"bad-{number}", f"10.0.0.{number}")) for number in range(100)]

        async def are_told() -> bool:
            return sum(each.done() for each in many) >= 100 - access.MAX_UNKNOWN_TOKENS

        await eventually(are_told)
        told = [each.result() for each in many if each.done()]
        assert {(status, headers[b"retry-after"]) for status, headers in told} == {(503, b"1")}

        async def are_looked_at() -> bool:
            return len(there.reviewed) > access.MAX_UNKNOWN_TOKEN_REVIEWS

        await eventually(are_looked_at)
        assert (await asked(app, "good-ann"))[0] == 200, "who is known waits for none of them"
        assert there.reviewed.count("good-ann") == 2
        assert len(there.reviewed) == access.MAX_UNKNOWN_TOKEN_REVIEWS + 2
        there.is_open.set()
        answers = await asyncio.gather(*many)
        assert sum(status == 401 for status, _ in answers) == access.MAX_UNKNOWN_TOKENS


async def test_an_address_with_too_many_refused_tokens_is_asked_to_wait_and_who_is_known_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "INVALID_TOKENS_PER_SECOND", 2)
    monkeypatch.setattr(access, "VALID_TOKEN_TTL_S", 0.0)
    async with kubernetes(tmp_path) as (there, cluster):
        app = Authenticated(fine, AccessReviewer(cluster))
        assert (await asked(app, "good-ann"))[0] == 200
        for _ in range(100):
            assert (await asked(app, "bad"))[0] == 401, "one that was just refused costs nothing"
            assert (await asked(app, "good-ann"))[0] == 200, "and what succeeds is not counted"
        looked_at, status = 0, 401
        while status == 401 and looked_at < 10 * BURST_S:  # the limit's window may move on meanwhile
            before = len(there.reviewed)
            status, headers = await asked(app, f"bad-{looked_at}")
            looked_at += status == 401
        assert looked_at >= 2 * BURST_S - 1
        assert (status, b"retry-after" in headers) == (429, True)
        assert len(there.reviewed) == before, "nobody is asked about it"
        assert (await asked(app, "good-ann"))[0] == 200
        assert (await asked(app, "good-ben", "10.0.0.2"))[0] == 200
        assert (await asked(app, "bad-elsewhere", "10.0.0.2"))[0] == 401
