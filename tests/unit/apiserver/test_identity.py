"""Tokens, and request bodies in protobuf."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from komputer.local.apiserver import protobuf
from komputer.local.apiserver.errors import StatusError
from komputer.local.apiserver.store import ObjectDatabase
from komputer.local.apiserver.tokens import ISSUER, Tokens, User

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def world(folder: Path) -> tuple[ObjectDatabase, Tokens]:
    """A namespace with the ServiceAccount `runner` and its Pod `ada`."""
    store = ObjectDatabase(folder / "objects.db", history_length=10)
    store.put("serviceaccounts", {"metadata": {"name": "runner", "namespace": "team", "uid": "sa-1"}})
    pod = {"metadata": {"name": "ada", "namespace": "team", "uid": "pod-1"}, "spec": {"serviceAccountName": "runner"}}
    store.put("pods", pod)
    return store, Tokens(store)


def issued(tokens: Tokens, **spec: Any) -> str:
    answer = tokens.issue("team", "runner", {"spec": spec}, NOW)
    return str(answer["status"]["token"])


BOUND = {"kind": "Pod", "apiVersion": "v1", "name": "ada", "uid": "pod-1"}


def test_a_token_names_its_account_and_its_pod(tmp_path: Path) -> None:
    store, tokens = world(tmp_path)
    found = tokens.verify(issued(tokens, audiences=["gate"], boundObjectRef=BOUND), ["gate", "other"], NOW)
    assert isinstance(found, tuple)
    user, audiences = found
    assert (user.username, user.uid, audiences) == ("system:serviceaccount:team:runner", "sa-1", ["gate"])
    assert user.extra["authentication.kubernetes.io/pod-uid"] == ["pod-1"]
    assert not user.is_admin
    store.close()


def test_a_token_is_invalid_for_another_audience_after_expiry_or_without_its_pod(tmp_path: Path) -> None:
    store, tokens = world(tmp_path)
    token = issued(tokens, audiences=["gate"], boundObjectRef=BOUND, expirationSeconds=600)

    def is_valid(token: str, audience: str = "gate", after: timedelta = timedelta()) -> bool:
        return isinstance(tokens.verify(token, [audience], NOW + after), tuple)

    assert is_valid(token, after=timedelta(seconds=599))
    assert not is_valid(token, after=timedelta(seconds=600))
    assert not is_valid(token, "other")
    assert not is_valid(token, ISSUER)
    assert not is_valid(token[:-2] + ("AA" if token[-2:] != "AA" else "BB"))
    pod = store.get("pods", "team", "ada")
    assert pod
    store.put(
        "pods", {**pod.object, "metadata": {**pod.object["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    )
    assert is_valid(token, after=timedelta(seconds=60))
    assert not is_valid(token, after=timedelta(seconds=61))
    store.remove(pod)
    assert not is_valid(token)
    store.put("pods", {**pod.object, "metadata": {"name": "ada", "namespace": "team", "uid": "pod-2"}})
    assert not is_valid(token), "a pod of the same name is another pod"
    store.close()


def test_a_token_of_a_recreated_account_is_invalid(tmp_path: Path) -> None:
    store, tokens = world(tmp_path)
    token = issued(tokens)
    store.put("serviceaccounts", {"metadata": {"name": "runner", "namespace": "team", "uid": "sa-2"}})
    assert isinstance(tokens.verify(token, [], NOW), str)
    store.close()


def test_tokens_of_a_copied_store_are_invalid_for_the_original(tmp_path: Path) -> None:
    """The copy has all objects: the pod and the account have the same uids."""
    store, _ = world(tmp_path)
    original, copy = Tokens(store, "first"), Tokens(store, "second")
    for issuer, other in ((original, copy), (copy, original)):
        token = issued(issuer, audiences=["gate"], boundObjectRef=BOUND)
        assert isinstance(issuer.verify(token, ["gate"], NOW), tuple)
        assert other.verify(token, ["gate"], NOW) == "[invalid bearer token, not a token of this server]"
    assert isinstance(Tokens(store, "first").verify(issued(original), [], NOW), tuple), "after a restart, too"
    store.close()


def test_tokens_survive_a_restart_and_are_valid_jwts(tmp_path: Path) -> None:
    store, tokens = world(tmp_path)
    token = issued(tokens)
    key = store.state("token-key")
    claims = jwt.decode(token, key, algorithms=["HS256"], audience=ISSUER, options={"verify_exp": False})
    assert claims["exp"] - claims["iat"] == 3600
    store.close()
    again = ObjectDatabase(tmp_path / "objects.db", history_length=10)
    assert isinstance(Tokens(again).verify(token, [], NOW), tuple)
    again.close()


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256", "typ": "JWT", "kid": "x"}])
def test_a_token_with_another_header_is_refused(tmp_path: Path, header: dict[str, str]) -> None:
    store, tokens = world(tmp_path)
    claims = jwt.decode(issued(tokens), options={"verify_signature": False})
    key = "" if header["alg"] == "none" else store.state("token-key")
    forged = jwt.encode(claims, key, algorithm=header["alg"], headers=header)
    assert isinstance(tokens.verify(forged, [], NOW), str)
    store.close()


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"expirationSeconds": 599}, 422),
        ({"boundObjectRef": {**BOUND, "name": "bob"}}, 404),
        ({"boundObjectRef": {**BOUND, "uid": "other"}}, 409),
        ({"boundObjectRef": {**BOUND, "kind": "Secret"}}, 400),
    ],
    ids=str,
)
def test_a_malformed_token_is_refused(tmp_path: Path, spec: dict[str, Any], code: int) -> None:
    store, tokens = world(tmp_path)
    with pytest.raises(StatusError) as refused:
        issued(tokens, **spec)
    assert refused.value.code == code
    store.close()


def test_only_the_masters_are_administrators() -> None:
    assert User("root", groups=("system:masters",)).is_admin
    assert not User("kubernetes-admin").is_admin


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3, value])
    raw = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(raw)]) + raw


def enveloped(kind: str, raw: bytes) -> bytes:
    return b"k8s\0" + field(1, field(1, "v1") + field(2, kind)) + field(2, raw)


def test_a_secret_is_decoded_from_protobuf() -> None:
    meta = field(1, "s") + field(2, "") + field(11, field(1, "a") + field(2, "b"))
    raw = field(1, meta) + field(2, field(1, "key") + field(2, b"\xff\x00")) + field(3, "Opaque") + field(5, 1)
    assert protobuf.decoded(enveloped("Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "labels": {"a": "b"}},
        "data": {"key": "/wA="},
        "type": "Opaque",
        "immutable": True,
    }


def test_a_kind_unsupported_in_protobuf_is_415() -> None:
    with pytest.raises(StatusError) as refused:
        protobuf.decoded(enveloped("Pod", b""))
    assert refused.value.code == 415


@pytest.mark.parametrize(
    "raw", [b"\x1a\x7fOpaque", b"\x28" + b"\xff" * 11 + b"\x01", b"\x0b", b"\x0a", b"\x08\x01", b"\x1a\x01\xff"]
)
def test_each_kind_of_malformed_protobuf_is_400(raw: bytes) -> None:
    assert answer_to(enveloped("Secret", raw)) == 400


@given(st.binary(max_size=60))
def test_arbitrarily_damaged_protobuf_is_400(raw: bytes) -> None:
    for body in (raw, b"k8s\0" + raw, enveloped("Secret", raw), enveloped("TokenRequest", raw)):
        assert answer_to(body) in (200, 400, 415)


def answer_to(body: bytes) -> int:
    try:
        protobuf.decoded(body)
    except StatusError as refused:
        return refused.code
    return 200
