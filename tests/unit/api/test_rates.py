"""One caller's requests are limited, others' are not."""

from typing import Any

from starlette.types import Message, Receive, Scope, Send

from komputer.api.rates import RateLimited
from komputer.http.rate import BURST_S
from komputer.services.access import Caller


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def asked(app: RateLimited, who: str | None, path: str = "/api/v1/agents") -> tuple[int, dict[bytes, bytes]]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    state: dict[str, Any] = {"caller": Caller(who)} if who else {}
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": ("10.0.0.1", 1), "state": state}
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


async def test_who_asks_too_much_gets_429_and_is_told_when_to_come_again() -> None:
    app = RateLimited(fine, per_second=2)
    answers = [await asked(app, "ann") for _ in range(2 * BURST_S + 5)]
    assert {status for status, _ in answers[: 2 * BURST_S]} == {200}
    refused = [headers for status, headers in answers[2 * BURST_S :] if status == 429]
    assert refused, "the counter's window may have passed on meanwhile, which gives one more, and one each half second"
    assert refused[0][b"retry-after"] == b"1"
    assert (await asked(app, "ben"))[0] == 200, "somebody else"
    assert (await asked(app, None))[0] == 200, "nobody, told apart by the address"
    assert (await asked(app, "ann", "/healthz"))[0] == 200, "probes are not counted"
