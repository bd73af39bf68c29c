"""Authentication: ServiceAccount tokens, their review, and responses to unauthenticated clients."""

import base64
import json
from typing import Any

import pytest

from tests.contract.kubernetes.cluster import JSON, Api, answered, causes, eventually, refused
from tests.contract.kubernetes.room import Room

AUDIENCE = "contract-gateway"
POD_NAME, POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"


def request_token(room: Room, pod: JSON | None = None, **spec: Any) -> str:
    """Return a token of the account `agent` for our audience, bound to `pod` if given."""
    body: JSON = {"spec": {"audiences": [AUDIENCE], "expirationSeconds": 3600, **spec}}
    if pod:
        identity = {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        body["spec"]["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", **identity}
    return str(answered(room.api.post(room.path("serviceaccounts", "agent", "token"), body), 201)["status"]["token"])


def review(api: Api, token: str, *audiences: str) -> JSON:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    spec = {"token": token} | ({"audiences": list(audiences)} if audiences else {})
    status = answered(api.post("/apis/authentication.k8s.io/v1/tokenreviews", {**body, "spec": spec}), 201)["status"]
    assert isinstance(status, dict)
    return status


def claims(token: str) -> JSON:
    body = token.split(".")[1]
    decoded = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert isinstance(decoded, dict)
    return decoded


@pytest.fixture
def account(room: Room) -> JSON:
    return room.create("serviceaccounts", {"metadata": {"name": "agent"}})


@pytest.fixture
def pod(room: Room, account: JSON) -> JSON:
    """A pod of the account, without finalizers, so that a deletion removes it at once."""
    return room.create("pods", room.pod("ada-pod", serviceAccountName="agent", schedulerName="nobody"))


def test_a_namespace_has_a_default_account(room: Room) -> None:
    """Every pod has an identity."""
    eventually(lambda: room.exists("serviceaccounts", "default"), bool)


def test_a_pods_token_names_the_pod(room: Room, account: JSON, pod: JSON) -> None:
    """The gateway learns from the review alone which pod calls, by name and uid, and so which agent."""
    status = review(room.api, request_token(room, pod), AUDIENCE)
    assert status["authenticated"] is True
    assert status["audiences"] == [AUDIENCE]
    user = status["user"]
    assert user["username"] == f"system:serviceaccount:{room.namespace}:agent"
    assert user["uid"] == account["metadata"]["uid"]
    assert {"system:serviceaccounts", f"system:serviceaccounts:{room.namespace}"} <= set(user["groups"])
    assert (user["extra"][POD_NAME], user["extra"][POD_UID]) == (["ada-pod"], [pod["metadata"]["uid"]])


def test_a_token_states_its_account_and_expiry(room: Room, account: JSON, pod: JSON) -> None:
    """The runtime reads the expiry from its own token; the claims are the usual ones."""
    path = room.path("serviceaccounts", "agent", "token")
    token = request_token(room, pod, expirationSeconds=600)
    body = claims(token)
    assert body["aud"] == [AUDIENCE]
    assert body["sub"] == f"system:serviceaccount:{room.namespace}:agent"
    assert body["exp"] - body["iat"] == 600
    identity = body["kubernetes.io"]
    assert identity["namespace"] == room.namespace
    assert identity["serviceaccount"] == {"name": "agent", "uid": account["metadata"]["uid"]}
    assert identity["pod"] == {"name": "ada-pod", "uid": pod["metadata"]["uid"]}
    answer = answered(room.api.post(path, {"spec": {"audiences": [AUDIENCE], "expirationSeconds": 600}}), 201)
    assert answer["status"]["expirationTimestamp"] > account["metadata"]["creationTimestamp"]


def test_a_token_is_valid_for_its_audience_only(room: Room, account: JSON) -> None:
    """A token for the gateway is invalid elsewhere, and the reverse."""
    token = request_token(room)
    assert not review(room.api, token, "another").get("authenticated")
    assert not review(room.api, token).get("authenticated")
    assert review(room.api, token, "another", AUDIENCE)["audiences"] == [AUDIENCE]
    both = request_token(room, audiences=[AUDIENCE, "second"])
    assert review(room.api, both, "second")["audiences"] == ["second"]


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."])
def test_an_arbitrary_string_is_not_authenticated(api: Api, token: str) -> None:
    """A review, not an error: a client of the gateway sent the token."""
    assert not review(api, token, AUDIENCE).get("authenticated")


def test_a_review_without_a_token_is_400(api: Api) -> None:
    """There is nothing to review."""
    refused(api.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": ""}}), 400, "BadRequest")


def test_a_modified_token_is_not_authenticated(room: Room, account: JSON) -> None:
    """Neither with changed claims nor with another signature."""
    header, body, signature = request_token(room).split(".")
    other = claims(f".{body}.") | {"sub": "system:serviceaccount:kube-system:admin"}
    forged = base64.urlsafe_b64encode(json.dumps(other).encode()).decode().rstrip("=")
    assert not review(room.api, f"{header}.{forged}.{signature}", AUDIENCE).get("authenticated")
    assert not review(room.api, f"{header}.{body}.{signature[::-1]}", AUDIENCE).get("authenticated")


def test_the_token_of_a_deleted_pod_is_invalid(room: Room, account: JSON, pod: JSON) -> None:
    """Even if there is a new pod of the same name. (A real server caches a successful review for ten seconds.)"""
    token = request_token(room, pod)
    answered(room.api.delete(room.path("pods", "ada-pod")))
    successor = room.create("pods", room.pod("ada-pod", serviceAccountName="agent", schedulerName="nobody"))
    eventually(lambda: review(room.api, token, AUDIENCE).get("authenticated"), lambda known: not known)
    assert review(room.api, request_token(room, successor), AUDIENCE)["authenticated"]


def test_the_token_of_a_terminating_pod_is_valid_until_it_is_gone(room: Room, account: JSON) -> None:
    """A stopping runtime still delivers its last events."""
    room.create("pods", room.pod("ada-pod", serviceAccountName="agent", nodeName="nowhere"))
    token = request_token(room, room.read("pods", "ada-pod"))
    answered(room.api.delete(room.path("pods", "ada-pod")))
    assert review(room.api, token, AUDIENCE)["authenticated"]


def test_the_token_of_a_deleted_account_is_invalid(room: Room, account: JSON) -> None:
    """Deleting the account revokes all of its tokens."""
    token = request_token(room)
    answered(room.api.delete(room.path("serviceaccounts", "agent")))
    eventually(lambda: review(room.api, token, AUDIENCE).get("authenticated"), lambda known: not known)


def test_a_token_is_not_issued_for_a_pod_of_another_account(room: Room, account: JSON) -> None:
    """Nor for a pod that does not exist, nor for a later pod of the same name."""
    path = room.path("serviceaccounts", "agent", "token")

    def ask(name: str, uid: str | None = None) -> Any:
        bound = {"apiVersion": "v1", "kind": "Pod", "name": name} | ({"uid": uid} if uid else {})
        return room.api.post(path, {"spec": {"audiences": [AUDIENCE], "boundObjectRef": bound}})

    refused(ask("nobody"), 404, "NotFound")
    room.create("pods", room.pod("other", schedulerName="nobody"))
    refused(ask("other"), 400, "BadRequest")
    room.create("pods", room.pod("ours", serviceAccountName="agent", schedulerName="nobody"))
    refused(ask("ours", "11111111-2222-3333-4444-555555555555"), 409, "Conflict")


def test_a_token_is_valid_for_at_least_ten_minutes(room: Room, account: JSON) -> None:
    """Shorter ones could not be renewed in time."""
    path = room.path("serviceaccounts", "agent", "token")
    answer = room.api.post(path, {"spec": {"audiences": [AUDIENCE], "expirationSeconds": 10}})
    assert causes(answer) == {"spec.expirationSeconds": "FieldValueInvalid"}


def test_a_token_of_a_missing_account_is_404(room: Room) -> None:
    """The operator creates the account first."""
    answer = room.api.post(room.path("serviceaccounts", "nobody", "token"), {"spec": {"audiences": [AUDIENCE]}})
    refused(answer, 404, "NotFound")


@pytest.mark.parametrize("token", [None, "nonsense", "a.b.c"])
@pytest.mark.parametrize("path", ["/api/v1/namespaces", "/api", "/apis", "/openapi/v2", "/nothing"])
def test_an_unauthenticated_request_is_401(api: Api, token: str | None, path: str) -> None:
    """Unauthenticated clients learn nothing, not even which objects exist."""
    with api.as_bearer(token) as unauthenticated:
        refused(unauthenticated.get(path), 401, "Unauthorized")


def test_unauthenticated_writes_are_401(room: Room) -> None:
    """For every verb."""
    room.create("configmaps", room.config_map("ada"))
    with room.api.as_bearer("nonsense") as unauthenticated:
        refused(unauthenticated.post(room.path("configmaps"), room.config_map("bob")), 401, "Unauthorized")
        refused(unauthenticated.patch(room.path("configmaps", "ada"), {"data": {"a": "1"}}), 401, "Unauthorized")
        refused(unauthenticated.delete(room.path("configmaps", "ada")), 401, "Unauthorized")
    assert room.names("configmaps", fieldSelector="metadata.name=ada") == ["ada"]


def test_an_agents_token_is_invalid_for_the_kubernetes_api(room: Room, account: JSON, pod: JSON) -> None:
    """It is for the gateway's audience."""
    with room.api.as_bearer(request_token(room, pod)) as agent:
        refused(agent.get(room.path("secrets")), 401, "Unauthorized")


def test_an_account_without_rights_is_forbidden_everything(room: Room, account: JSON) -> None:
    """Even a token for the Kubernetes API itself, perhaps mounted by mistake, reads no secret and writes nothing."""
    answer = answered(room.api.post(room.path("serviceaccounts", "agent", "token"), {"spec": {}}), 201)
    with room.api.as_bearer(answer["status"]["token"]) as agent:
        refused(agent.get(room.path("secrets")), 403, "Forbidden")
        refused(agent.post(room.path("pods"), {}), 403, "Forbidden")
        refused(agent.delete(room.path("serviceaccounts", "agent")), 403, "Forbidden")


def access(room: Room, kind: str = "SubjectAccessReview", **spec: Any) -> JSON:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind}
    attributes = {"namespace": room.namespace, "verb": "get", "group": room.group, "resource": "widgets", "name": "ada"}
    path = f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
    answer = answered(room.api.post(path, {**body, "spec": {"resourceAttributes": attributes, **spec}}), 201)
    status = answer["status"]
    assert isinstance(status, dict)
    return status


def test_access_is_reviewed_by_user_and_groups(room: Room) -> None:
    """The REST API permits what RBAC permits with `komputeragents`."""
    assert access(room, user="root", groups=["system:masters"])["allowed"] is True
    assert access(room, user="nobody", groups=["system:authenticated"])["allowed"] is False
    assert access(room, user=f"system:serviceaccount:{room.namespace}:agent")["allowed"] is False


def test_our_own_access_is_reviewed(room: Room) -> None:
    """`kubectl auth can-i`."""
    assert access(room, "SelfSubjectAccessReview")["allowed"] is True


def test_an_empty_review_is_422(room: Room) -> None:
    """A review needs a user and attributes."""
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert room.api.post(path, {"spec": {"user": "root"}}).status_code == 422
    attributes = {"resourceAttributes": {"verb": "get", "resource": "pods"}}
    assert room.api.post(path, {"spec": attributes}).status_code == 422


def test_a_user_can_review_themselves(api: Api) -> None:
    """`kubectl auth whoami`."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = answered(api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", body), 201)
    assert answer["status"]["userInfo"]["username"]
