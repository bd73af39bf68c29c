"""What the probe of the model reports, against real HTTP servers on loopback."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from komputer.gateway import ModelCredential, always
from komputer.serve import probe

KEY = ModelCredential(kind="api_key", value="sk-probe-0123456789")


@asynccontextmanager
async def model(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (200, "ok"),
        (404, "ok"),
        (429, "ok"),
        (401, "refused"),
        (403, "refused"),
        (500, "unreachable"),
        (529, "unreachable"),
    ],
)
async def test_the_status_of_the_model_shows_whether_the_credential_is_accepted(status: int, state: str) -> None:
    asked: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers.get("x-api-key")))
        return web.Response(status=status)

    async with model(answer) as address:
        found = await probe.model(address, None, always(KEY))
    assert found["state"] == state
    assert str(status) in found["message"]
    assert KEY.value not in str(found)
    assert asked == [("/v1/messages/count_tokens", KEY.value)]


async def test_a_redirect_does_not_get_the_credential() -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    async with model(elsewhere) as other:

        async def answer(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"location": f"{other}/thief"})

        async with model(answer) as address:
            found = await probe.model(address, None, always(KEY))
    assert found["state"] == "unreachable"
    assert asked == []


async def test_an_address_where_nobody_listens_is_unreachable() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response()

    async with model(answer) as address:
        pass
    found = await probe.model(address, None, always(KEY))
    assert found["state"] == "unreachable"
    assert address in found["message"]
