"""Which Secret a connector may send, and as what."""

import base64
from typing import Any

import pytest

from komputer.domain import names
from komputer.domain.config import Config
from komputer.domain.connector import Connector, attached, is_connector_name, may_be_set, missing
from komputer.domain.errors import Forbidden, Invalid, ServerFailed
from komputer.services.connectors.credentials import ConnectorCredential, admit, clean, header, value_in
from komputer.services.connectors.failures import of_status, unreachable

UID = "11111111-0000-4000-8000-000000000001"


def secret(*, type: str | None = "Opaque", data: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in (data or {}).items()}
    return {"metadata": {"name": "mine", "namespace": "team", **metadata}, "type": type, "data": encoded}


def owner(kind: str, uid: str, group: str = names.API_VERSION) -> list[dict[str, Any]]:
    return [{"apiVersion": group, "kind": kind, "name": "x", "uid": uid, "controller": True}]


def connector(**spec: Any) -> Connector:
    return Connector.model_validate(
        {
            "metadata": {"name": "c", "namespace": "team", "uid": UID},
            "spec": {"service": "s", "url": "https://x", **spec},
        }
    )


def test_a_persons_own_secret_may_be_used() -> None:
    admit(secret(), UID)
    admit(secret(type=None), "")
    admit(secret(ownerReferences=owner("Deployment", "u", "apps/v1")), UID)
    admit(secret(ownerReferences=owner("KomputerConnector", UID), labels={names.CONNECTOR_LABEL: "c"}), UID)


@pytest.mark.parametrize(
    "foreign",
    [
        secret(type="kubernetes.io/service-account-token"),
        secret(type="helm.sh/release.v1"),
        secret(type="kubernetes.io/tls"),
        secret(labels={names.PLATFORM_LABEL: "true"}),
        secret(labels={names.PLATFORM_LABEL: ""}),
        secret(ownerReferences=owner("KomputerAgent", "other")),
        secret(ownerReferences=owner("KomputerAgent", UID)),
        secret(ownerReferences=owner("KomputerConnector", "another-connector")),
        secret(labels={names.CONNECTOR_LABEL: "c"}),
    ],
)
def test_a_secret_of_something_else_is_never_sent_anywhere(foreign: dict[str, Any]) -> None:
    for uid in (UID, ""):
        with pytest.raises(Forbidden) as refused:
            admit(foreign, uid)
        assert refused.value.code == "secret_not_allowed"


def test_the_platforms_redis_password_is_never_sent_anywhere() -> None:
    for namespace in (None, "team"):
        reference = {"name": "mine", "key": "password", "namespace": namespace}
        spec = {"redis": {"address": "r", "passwordSecret": reference}}
        with pytest.raises(Forbidden):
            admit(secret(), UID, [Config.model_validate({"spec": spec})])
    elsewhere = {"redis": {"address": "r", "passwordSecret": {"name": "mine", "key": "k", "namespace": "platform"}}}
    admit(secret(), UID, [Config.model_validate({"spec": elsewhere})])


def test_a_credential_is_a_header_and_shows_its_value_to_nobody() -> None:
    bearer = header(connector(authType="token"), "secret-1")
    assert (bearer.name, bearer.value) == ("authorization", "Bearer secret-1")
    own = header(connector(authType="header", headerName="X-Api-Key"), "secret-1")
    assert (own.name, own.value) == ("x-api-key", "secret-1")
    assert "secret-1" not in f"{bearer!r} {bearer} {own!r}"
    assert isinstance(bearer, ConnectorCredential)


def test_a_value_is_read_without_the_line_break_that_editors_leave() -> None:
    assert value_in(secret(data={"token": "abc\n"}), "token") == "abc"


@pytest.mark.parametrize("value", ["", " ", "a\nb", "a\r\nhost: x", "ü", "x" * 9000, "a\x00"])
def test_what_cannot_stand_in_a_header_is_refused_without_quoting_it(value: str) -> None:
    with pytest.raises(Invalid):
        clean(value)
    with pytest.raises(ServerFailed) as refused:
        value_in(secret(data={"token": value}), "token")
    assert refused.value.code == "mcp_secret_invalid"
    assert not value.strip() or value not in refused.value.message


def test_a_missing_key_is_told_by_name() -> None:
    with pytest.raises(ServerFailed, match="no key 'token'") as refused:
        value_in(secret(), "token")
    assert refused.value.code == "mcp_secret_missing"


def test_headers_of_http_and_mcp_cannot_be_taken_for_a_credential() -> None:
    assert may_be_set("X-Api-Key")
    assert may_be_set("authorization")
    for name in ("Host", "content-length", "Mcp-Session-Id", "accept", "transfer-encoding", "x y", "", "x\r\ny", "x:y"):
        assert not may_be_set(name), name


def test_a_name_of_ours_is_no_connectors() -> None:
    assert is_connector_name("git-hub")
    for name in ("komputer", "Git", "a.b", "a/b", "", "-a", "x" * 64):
        assert not is_connector_name(name)


def test_the_agents_of_a_connector_are_those_that_name_it_now() -> None:
    def agent(name: str, *connectors: str, namespace: str = "team", **metadata: str) -> dict[str, Any]:
        return {
            "metadata": {"name": name, "namespace": namespace, **metadata},
            "spec": {"connectors": list(connectors)} if connectors else {},
        }

    found = attached(
        [
            agent("eve", "git", "git"),
            agent("ada", "git", "mail"),
            agent("bob"),
            agent("ada", "git", namespace="other"),
            agent("gone", "git", deletionTimestamp="2026-01-01T00:00:00Z"),
        ]
    )
    assert found == {("team", "git"): ["ada", "eve"], ("team", "mail"): ["ada"], ("other", "git"): ["ada"]}


def test_what_an_agent_has_to_do_without_is_told_with_the_reason() -> None:
    there = {"on": connector(), "off": connector(disabled=True), "unread": None}
    assert missing(["on"], there) == []
    assert missing(["on", "off", "never", "unread"], there) == [
        "connector 'off' is disabled",
        "there is no connector 'never'",
        "there is no connector 'unread'",
    ]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, None),
        (202, None),
        (400, None),
        (404, None),
        (405, None),
        (401, "mcp_unauthorized"),
        (403, "mcp_forbidden"),
        (302, "mcp_redirect"),
        (307, "mcp_redirect"),
        (429, "mcp_unavailable"),
        (500, "mcp_unavailable"),
        (503, "mcp_unavailable"),
    ],
)
def test_a_status_is_mcps_affair_or_a_failure_with_a_code(status: int, code: str | None) -> None:
    failure = of_status(status)
    assert (failure.code if failure else None) == code


def test_a_connection_that_fails_is_told_without_the_address_behind_the_name() -> None:
    for error in (ConnectionRefusedError("10.0.0.7"), TimeoutError("10.0.0.7"), OSError("10.0.0.7")):
        failure = unreachable(error)
        assert failure.code == "mcp_unreachable"
        assert "10.0.0.7" not in failure.message


def test_an_address_at_which_no_session_can_begin_is_no_endpoint() -> None:
    for status in (404, 405):
        failure = of_status(status, begins=True)
        assert failure
        assert failure.code == "mcp_protocol"
    assert of_status(400, begins=True) is None
