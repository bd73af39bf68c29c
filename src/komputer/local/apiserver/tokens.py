"""Issues and verifies ServiceAccount tokens: HS256 JWTs with the claims of real ones, valid as long as their pod and
account exist.

They are signed and verified here, because the import of PyJWT takes 0.26 s, which doubles the time that the server
takes to start (measured).
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson

from komputer.local.apiserver.errors import bad_request, conflict, invalid, invalid_value, not_found
from komputer.local.apiserver.kinds import POD, SERVICE_ACCOUNT
from komputer.local.apiserver.store import Object, ObjectDatabase, Stored

ISSUER = "https://kubernetes.default.svc.cluster.local"
SHORTEST = timedelta(minutes=10)
LONGEST = timedelta(hours=2**32 / 3600)
DELETED_POD_LEEWAY = timedelta(seconds=60)
"""How long a token outlives its pod's deletionTimestamp; the real server's value."""


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated user, as in a TokenReview."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_admin(self) -> bool:
        return "system:masters" in self.groups


@dataclass(frozen=True, slots=True)
class ServerCredentials:
    """The token of the administrator, and the installation for which ServiceAccount tokens are valid."""

    admin_token: str
    installation: str = ""
    """An id that is part of the signing key. So the tokens of one installation are not valid at another that runs on a
    copy of the database."""


ADMIN = User("kubernetes-admin", groups=("system:masters", "system:authenticated"))


class Tokens:
    """Issues and verifies tokens. The store has a key, from which each `installation` derives its own: an installation
    with a copy of the store cannot issue tokens for the original."""

    def __init__(self, store: ObjectDatabase, installation: str = "") -> None:
        self._store = store
        key = store.state("token-key")
        if key is None:
            key = secrets.token_bytes(32)
            store.set_state("token-key", key)
        self._key: bytes = hmac.digest(key, installation.encode(), hashlib.sha256) if installation else key

    def issue(self, namespace: str, account: str, request: Object, now: datetime) -> Object:
        """Return the TokenRequest with its status. The caller has checked its types. Raises StatusError 400, 404, 409
        or 422."""
        owner = self._store.get(SERVICE_ACCOUNT.resource, namespace, account)
        if owner is None:
            raise not_found("serviceaccounts", account)
        spec = request.get("spec") or {}
        seconds, audiences = spec.get("expirationSeconds"), spec.get("audiences") or [ISSUER]
        seconds = 3600 if seconds is None else seconds
        fault = None
        if seconds < SHORTEST.total_seconds():
            fault = "may not specify a duration less than 10 minutes"
        elif seconds > LONGEST.total_seconds():
            fault = "may not specify a duration larger than 2^32 seconds"
        if fault:
            error = invalid_value("spec.expirationSeconds", seconds, fault)
            raise invalid("TokenRequest", "authentication.k8s.io", "", [error])
        expires = now + timedelta(seconds=seconds)
        kubernetes: Object = {"namespace": namespace, "serviceaccount": _reference(owner)}
        if bound := spec.get("boundObjectRef"):
            kubernetes["pod"] = _reference(self._bound_pod(namespace, account, bound))
        claims = {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "aud": audiences,
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(expires.timestamp()),
            "jti": secrets.token_hex(16),
            "kubernetes.io": kubernetes,
        }
        token = _signed(claims, self._key)
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": account,
                "namespace": namespace,
                "creationTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ")},
        }

    def _bound_pod(self, namespace: str, account: str, bound: Object) -> Stored:
        if bound.get("kind") != "Pod" or bound.get("apiVersion", "v1") != "v1":
            raise bad_request(f"cannot bind token to object {bound!r}: the local API server binds tokens to pods only")
        name = bound.get("name", "")
        pod = self._store.get(POD.resource, namespace, name)
        if pod is None:
            raise not_found("pods", name)
        uid = pod.object["metadata"]["uid"]
        if bound.get("uid") and bound["uid"] != uid:
            why = (
                f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. The object"
                " might have been deleted and then recreated"
            )
            raise conflict("pods", name, why)
        if pod.object["spec"]["serviceAccountName"] != account:
            raise bad_request(
                f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.'
            )
        return pod

    def verify(self, token: str, audiences: list[str], now: datetime) -> tuple[User, list[str]] | str:
        """Return the user and the audiences for which the token is valid, or why it is invalid."""
        claims = _claims(token, self._key)
        if claims is None:
            return "[invalid bearer token, not a token of this server]"
        if claims["exp"] <= now.timestamp():
            return "[invalid bearer token, service account token has expired]"
        matching = [one for one in audiences or [ISSUER] if one in claims["aud"]]
        if not matching:
            targets = f"the target audiences {audiences or [ISSUER]!r}"
            return f"[invalid bearer token, token audiences {claims['aud']!r} is invalid for {targets}]"
        bound = claims["kubernetes.io"]
        namespace, account = bound["namespace"], bound["serviceaccount"]
        owner = self._store.get(SERVICE_ACCOUNT.resource, namespace, account["name"])
        if owner is None or owner.object["metadata"]["uid"] != account["uid"]:
            return "[invalid bearer token, service account has been deleted]"
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
        if reference := bound.get("pod"):
            pod = self._store.get(POD.resource, namespace, reference["name"])
            if pod is None or pod.object["metadata"]["uid"] != reference["uid"] or _is_long_deleted(pod.object, now):
                return "[invalid bearer token, service account token has been invalidated]"
            extra |= {
                "authentication.kubernetes.io/pod-name": [reference["name"]],
                "authentication.kubernetes.io/pod-uid": [reference["uid"]],
            }
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(claims["sub"], account["uid"], groups, extra), matching


_HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")


def _signed(claims: Object, key: bytes) -> str:
    text = _HEADER + b"." + base64.urlsafe_b64encode(orjson.dumps(claims)).rstrip(b"=")
    return (text + b"." + _signature(text, key)).decode()


def _signature(text: bytes, key: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.digest(key, text, hashlib.sha256)).rstrip(b"=")


def _claims(token: str, key: bytes) -> Object | None:
    """Return the claims of a token that this server has issued; None for any other, including one with another JWT
    header."""
    text, _, signature = token.encode(errors="replace").rpartition(b".")
    header, _, payload = text.partition(b".")
    if header != _HEADER or not hmac.compare_digest(signature, _signature(text, key)):
        return None
    claims: Object = orjson.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    return claims


def _reference(stored: Stored) -> Object:
    return {"name": stored.address[2], "uid": stored.object["metadata"]["uid"]}


def _is_long_deleted(pod: Object, now: datetime) -> bool:
    deleted = pod["metadata"].get("deletionTimestamp")
    if not deleted:
        return False
    return datetime.strptime(deleted, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) + DELETED_POD_LEEWAY < now
