"""Which headers pass to the model and back."""

import pytest

from komputer.gateway.headers import takes_gzip, to_model, to_pod, to_server
from komputer.gateway.settings import ModelCredential
from komputer.services.connectors.credentials import ConnectorCredential as ServerCredential

KEY = ModelCredential(kind="api_key", value="sk-platform")


def sent(*headers: tuple[str, str], credential: ModelCredential | None = KEY) -> dict[str, str]:
    return dict(to_model([(name.encode(), value.encode()) for name, value in headers], credential))


def test_the_pods_token_and_key_give_way_to_the_platforms_credential() -> None:
    passed = sent(("authorization", "Bearer pod-token"), ("x-api-key", "task-key"))
    assert passed == {"accept-encoding": "identity", "x-api-key": "sk-platform"}
    bearer = sent(("authorization", "Bearer pod-token"), credential=ModelCredential(kind="bearer", value="oauth"))
    assert bearer == {"accept-encoding": "identity", "authorization": "Bearer oauth"}


def test_without_a_credential_none_is_sent() -> None:
    assert sent(("authorization", "Bearer pod-token"), credential=None) == {"accept-encoding": "identity"}


@pytest.mark.parametrize(
    "name",
    [
        *("cookie", "connection", "te", "transfer-encoding", "upgrade", "keep-alive", "trailer", "expect", "host"),
        *("proxy-authorization", "forwarded", "x-forwarded-for", "x-real-ip", "via", "content-length"),
        *("anthropic-workspace-id", "x-anything"),
    ],
)
def test_what_is_not_of_the_messages_api_stays_here(name: str) -> None:
    assert name not in sent((name, "value"))


@pytest.mark.parametrize(
    "name",
    [
        *("anthropic-version", "anthropic-beta", "content-type", "user-agent", "x-app", "accept"),
        *("x-stainless-timeout", "x-claude-code-session-id"),
    ],
)
def test_what_claude_tells_of_itself_passes(name: str) -> None:
    assert sent((name, "value"))[name] == "value"


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("gzip, deflate, br, zstd", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br", False),
        ("", False),
    ],
)
def test_only_gzip_is_asked_for_and_only_where_it_is_taken(said: str, taken: bool) -> None:
    assert takes_gzip(said) is taken
    assert sent(("accept-encoding", said))["accept-encoding"] == ("gzip" if taken else "identity")


def test_of_an_answer_all_passes_but_what_speaks_of_the_connection_or_the_account() -> None:
    answered = [
        ("Content-Type", "text/event-stream"),
        ("Content-Length", "12"),
        ("Request-Id", "req_1"),
        ("Retry-After", "3"),
        ("anthropic-ratelimit-requests-remaining", "9"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Set-Cookie", "session=1"),
        ("anthropic-organization-id", "org"),
        ("Via", "1.1 somewhere"),
    ]
    assert to_pod(answered, None) == [
        (b"content-type", b"text/event-stream"),
        (b"content-length", b"12"),
        (b"request-id", b"req_1"),
        (b"retry-after", b"3"),
        (b"anthropic-ratelimit-requests-remaining", b"9"),
    ]


def test_a_header_that_quotes_the_credential_does_not_come_back() -> None:
    assert to_pod([("x-echo", "key sk-platform"), ("x-other", "1")], "sk-platform") == [(b"x-other", b"1")]


def to_a_server(*headers: tuple[str, str], credential: ServerCredential | None = None) -> dict[str, str]:
    return dict(to_server([(name.encode(), value.encode()) for name, value in headers], credential))


def test_a_connectors_server_gets_what_mcp_needs_and_the_connectors_credential() -> None:
    own = ServerCredential("x-api-key", "secret", "secret")
    passed = to_a_server(
        ("Authorization", "Bearer pod-token"),
        ("X-Api-Key", "the agent's"),
        ("Accept", "text/event-stream"),
        ("Mcp-Session-Id", "s"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Last-Event-ID", "7"),
        ("Cookie", "a=b"),
        ("Accept-Encoding", "gzip"),
        credential=own,
    )
    assert passed == {
        "accept": "text/event-stream",
        "mcp-session-id": "s",
        "mcp-protocol-version": "2026-07-28",
        "last-event-id": "7",
        "accept-encoding": "identity",
        "x-api-key": "secret",
    }


def test_an_agent_cannot_choose_a_credential_where_the_connector_has_none() -> None:
    assert to_a_server(("authorization", "Bearer x"), ("x-api-key", "x")) == {"accept-encoding": "identity"}


def test_a_servers_demand_to_sign_in_does_not_reach_the_agent() -> None:
    assert to_pod([("WWW-Authenticate", "Bearer"), ("Mcp-Session-Id", "s")], None) == [(b"mcp-session-id", b"s")]
