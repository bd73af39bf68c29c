"""Builds the bodies of token and access reviews, and interprets the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from komputer.kube.kinds import ACCESS_REVIEWS, TOKEN_REVIEWS, Manifest


@dataclass(frozen=True, slots=True)
class TokenIdentity:
    """The identity that a token proves. The last four fields are set for tokens of service accounts and pods."""

    username: str
    groups: tuple[str, ...] = ()
    namespace: str | None = None
    service_account: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None


class IssuedToken(NamedTuple):
    token: str
    expires_at: datetime


def token_review(token: str, audience: str | None) -> Manifest:
    spec = {"token": token} | ({"audiences": [audience]} if audience else {})
    return {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "metadata": {}, "spec": spec}


def identity(review: Manifest, audience: str | None) -> TokenIdentity | None:
    """Return the identity in an answered token review; None if the token is not valid, or not for `audience`. The
    answer of a server that does not support audiences contains none, and is not accepted."""
    status = review.get("status") or {}
    if not status.get("authenticated") or (audience and audience not in (status.get("audiences") or ())):
        return None
    user = status["user"]
    username = str(user.get("username", ""))
    extra = user.get("extra") or {}
    account = username.split(":") if username.startswith("system:serviceaccount:") else []
    return TokenIdentity(
        username=username,
        groups=tuple(user.get("groups") or ()),
        namespace=account[2] if len(account) == 4 else None,
        service_account=account[3] if len(account) == 4 else None,
        pod_name=next(iter(extra.get("authentication.kubernetes.io/pod-name") or ()), None),
        pod_uid=next(iter(extra.get("authentication.kubernetes.io/pod-uid") or ()), None),
    )


def access_review(user: str, groups: Sequence[str], **asked: str | None) -> Manifest:
    attributes = {key: value for key, value in asked.items() if value}
    spec = {"user": user, "groups": [*groups], "resourceAttributes": attributes}
    return {"apiVersion": ACCESS_REVIEWS.api_version, "kind": ACCESS_REVIEWS.kind, "metadata": {}, "spec": spec}


def is_allowed(review: Manifest) -> bool:
    status = review.get("status") or {}
    return bool(status.get("allowed")) and not status.get("denied")


def token_request(audience: str, expiration_s: int, pod_name: str | None, pod_uid: str | None) -> Manifest:
    spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": expiration_s}
    if pod_name is not None:
        pod = {"apiVersion": "v1", "kind": "Pod", "name": pod_name}
        spec["boundObjectRef"] = pod | ({"uid": pod_uid} if pod_uid else {})
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}
