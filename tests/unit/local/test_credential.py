"""The model's credential in the environment: refused at once if it cannot work, and never printed."""

import socket

import pytest

from komputer.domain.errors import Invalid
from komputer.local import credential

KEY = "sk-ant-not-a-real-key"


@pytest.mark.parametrize("value", [f"{KEY}\n", f"{KEY}\r", f" {KEY}", f"{KEY}\tx", "schlüssel-" + KEY, KEY + "\x00"])
@pytest.mark.parametrize("variable", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_a_credential_that_no_header_can_carry_is_refused_without_showing_it(variable: str, value: str) -> None:
    with pytest.raises(Invalid) as refused:
        credential.from_environment({variable: value})
    assert variable in refused.value.message
    assert KEY not in refused.value.message


@pytest.mark.parametrize(
    "url",
    ["example.com", "localhost:8099", "ftp://example.com", "http://", "https://a b", "http://x:99999", "http://[::1",
     "https://example.com/?a=b", "https://example.com/#x", "http://x\n"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_and_shown(url: str) -> None:
    with pytest.raises(Invalid, match="ANTHROPIC_BASE_URL"):
        credential.from_environment({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url})


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(Invalid) as refused:
        credential.from_environment({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "https://me:hunter2@example.com"})
    assert "hunter2" not in refused.value.message


def test_usual_addresses_are_taken() -> None:
    for url in ("https://api.anthropic.com", "http://127.0.0.1:8099/", "http://[::1]:80", "https://gw.example.com/a/b"):
        access = credential.from_environment({"ANTHROPIC_AUTH_TOKEN": KEY, "ANTHROPIC_BASE_URL": url})
        assert access == (url, "bearer", KEY)
    assert credential.from_environment({"ANTHROPIC_BASE_URL": "nonsense"}) is None


def test_an_address_that_refuses_or_does_not_resolve_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert credential.why_unreachable(url) is None
    assert credential.why_unreachable(url)
    assert credential.why_unreachable("https://model.invalid")
