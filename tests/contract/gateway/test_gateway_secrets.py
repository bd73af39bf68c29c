"""No answer, log line or exception text ever holds the platform's credential or a pod's token."""

import gzip
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog

from tests.contract.gateway.serving import Model, answers, breaks_off, free_port
from tests.contract.gateway.world import CREDENTIAL, Runner, World, asking


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Ours and every library's, from DEBUG on, with tracebacks."""
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    with caplog.at_level(logging.DEBUG):
        yield
    structlog.configure(**before)


@pytest.fixture
async def ada(world: World) -> Runner:
    ada = await world.agent()
    await ada.start()
    return ada


def quotes_the_key(status: int, **headers: str) -> Any:
    """As some servers do that refuse one."""
    return answers(status, f"Incorrect API key: {CREDENTIAL}".encode(), x_key=CREDENTIAL, **headers)


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
async def test_an_address_that_quotes_what_it_was_sent_tells_the_pod_nothing(
    ada: Runner, model: Model, status: int
) -> None:
    model.reply = quotes_the_key(status) if status >= 400 else answers(200, b"{}", x_key=CREDENTIAL)
    answered = await ada.ask()
    assert answered.status_code == status
    assert CREDENTIAL not in answered.text + str(answered.headers)
    if status >= 400:
        assert answered.text == "Incorrect API key: [redacted]"


async def test_a_compressed_error_is_cleaned_too(ada: Runner, model: Model) -> None:
    packed = gzip.compress(f"Incorrect API key: {CREDENTIAL}".encode())
    model.reply = answers(401, packed, content_encoding="gzip")
    answered = await ada.ask(**{"accept-encoding": "gzip"})
    assert answered.text == "Incorrect API key: [redacted]"


async def test_an_error_in_a_coding_that_was_not_asked_for_is_left_out(ada: Runner, model: Model) -> None:
    model.reply = answers(401, CREDENTIAL.encode()[::-1], content_encoding="br")
    answered = await ada.ask()
    assert (answered.status_code, answered.content) == (401, b"")


async def test_no_log_line_holds_a_credential_or_a_token(
    ada: Runner, world: World, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    for reply in (answers(200, {}), quotes_the_key(401), quotes_the_key(500), answers(307, b"")):
        model.reply = reply
        await ada.ask()
    model.reply = breaks_off
    with pytest.raises(httpx.RemoteProtocolError):
        await ada.ask()
    world.gateway.parts.upstream._base = f"http://127.0.0.1:{free_port()}"
    await ada.ask()
    await ada.ask(asking(model="claude-opus-5-5"))
    await ada.tell(ada.event("text", content="Hello."))
    await ada.post("/v1/events", b"{")
    good, ada.token = ada.token, ada.token[:-1] + ("A" if ada.token[-1] != "A" else "B")
    await ada.post("/v1/hello", {})
    told = caplog.text
    assert "model not reachable" in told
    assert "httpcore" in told, "DEBUG lines of libraries are looked at too"
    for secret in (CREDENTIAL, good, ada.token, good.split(".")[2]):
        assert secret not in told


async def test_a_defect_of_ours_is_an_internal_error_to_the_pod(
    ada: Runner, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(f"with {CREDENTIAL} in it")

    monkeypatch.setattr(world.gateway.parts.access.identity, "caller", broken)
    for path in ("/v1/hello", "/model/v1/messages"):
        answered = await ada.post(path, asking())
        assert answered.status_code == 500
        assert CREDENTIAL not in answered.text
        assert "internal error" in answered.text


def test_settings_and_the_credential_show_no_value() -> None:
    from komputer import gateway

    credential = gateway.ModelCredential(kind="bearer", value=CREDENTIAL)
    settings = gateway.GatewaySettings(model_base_url="http://model", model_credential=gateway.always(credential))
    assert CREDENTIAL not in f"{credential!r} {credential} {settings!r} {settings}"
